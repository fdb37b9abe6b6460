"""A server that others reach: refused without tokens, asked with them, closed when they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.shell import process
from tests.stories.test_serving import ROW, Home
from tests.waits import until

import keepfit
from keepfit.errors import AccessDenied
from keepfit.facts import Paused
from keepfit.home import open_memory

pytestmark = pytest.mark.story


def test_others_are_let_in_by_a_token_at_every_worker_until_it_is_revoked(tmp_path: Path) -> None:
    home = Home(tmp_path).trained()
    words = ("serve", str(home.file), "--port", "0", "--host", "0.0.0.0")
    alone = process(tmp_path, *words)
    assert alone.status == 2
    assert "there are no tokens" in alone.err
    secret = process(tmp_path, "token", "make", "shop", "--role", "predict").out.strip()
    hand = process(tmp_path, "token", "make", "desk", "--role", "operate").out.strip()
    with home.running("serve", "--host", "0.0.0.0", "--workers", "2") as server:
        url = f"http://127.0.0.1:{server.port}"

        def admitted(token: str | None) -> int:
            """Return how many of several connections, which any worker may take, are let in."""
            count = 0
            for _ in range(12):
                with keepfit.Client(url, "churn", token=token) as client:
                    try:
                        count += client.predict(ROW).version is not None
                    except AccessDenied:
                        continue
            return count

        assert (admitted(None), admitted(hand), admitted(secret)) == (0, 0, 12)
        told = server.ask(
            "POST",
            "/pause",
            {"reason": "holidays", "by": "ada"},
            {"authorization": f"Bearer {hand}"},
        )
        assert told["paused"] == "holidays"
        assert process(tmp_path, "token", "revoke", "shop").status == 0
        until(lambda: admitted(secret) == 0)
        assert admitted(secret) == 0
        assert server.health()["ready"]
    memory = open_memory(tmp_path / ".keepfit", "churn")
    (paused,) = [entry.fact for entry in memory.ledger.facts("churn", kind="Paused")]
    memory.close()
    assert isinstance(paused, Paused)
    assert (paused.by, paused.reason) == ("desk for ada", "holidays")
