"""A pipeline's life in a real MLflow: on SQLite, on a simulated clock, with outages in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.mlflows import Server, client_of, registered
from tests.test_adopt import boosted, register
from tests.worlds import DAY, live, pipeline, play, stream

from keepfit import Ledger, gates, triggers
from keepfit.adopt import adopt
from keepfit.artifacts import Artifacts
from keepfit.home import places
from keepfit.loop import Loop
from keepfit.mirror import Mirror, Settings

pytestmark = pytest.mark.story


@pytest.fixture
def settings(tmp_path: Path, mlflow_tables: Path) -> Settings:
    return registered(tmp_path, mlflow_tables)


@pytest.fixture
def client(settings: Settings) -> Any:
    return client_of(settings)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = pipeline(
        stream(30, 60, flip_at=14),
        tmp_path / ".keepfit",
        trigger=triggers.Every("6d"),
        gate=gates.NoWorse(within=0.02),
        enough=50,
    )
    begun = live(made)
    yield begun
    begun.memory.close()


def mirror(loop: Loop, settings: Settings, **given: Any) -> Mirror:
    where = places(loop.pipeline.home)
    ledger, artifacts = Ledger(where["ledger"]), Artifacts(where["artifacts"])
    return Mirror(ledger, artifacts, loop.pipeline.name, settings, **given)


def aliases(client: Any) -> dict[str, str]:
    """Return which version of keepfit's each alias names, over there."""
    held = client.get_registered_model("churn").aliases
    return {
        alias: client.get_model_version("churn", str(number)).tags["keepfit.version"]
        for alias, number in held.items()
    }


def copies(client: Any) -> list[str]:
    found = client.search_model_versions("name = 'churn'")
    return sorted(one.tags["keepfit.version"] for one in found)


def trained(loop: Loop) -> list[str]:
    return sorted(one.name for one in loop.refold().versions.values() if one.artifact)


def now(loop: Loop) -> dict[str, str]:
    state = loop.refold()
    held = {"champion": state.champion, "previous": state.previous}
    held["challenger"] = state.waiting[-1] if state.waiting else None
    return {alias: name for alias, name in held.items() if name}


def test_aliases_follow_promotions_and_rollbacks(
    loop: Loop, settings: Settings, client: Any
) -> None:
    from keepfit.hand import Hand

    copyist = mirror(loop, settings)
    for _ in range(5):
        play(loop, 6)
        copyist.look()
        assert aliases(client) == now(loop)
        assert copies(client) == trained(loop)
    assert loop.state.previous is not None
    Hand(loop, "worse on Mondays").rollback()
    copyist.look()
    assert aliases(client) == now(loop)
    assert "previous" not in aliases(client)
    assert copyist.look() == type(copyist.look())()


def test_what_happened_while_it_was_away_is_caught_up(
    loop: Loop, settings: Settings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepfit.mirror.follower.PATIENCE", (0.0, 0.0))
    said: list[str] = []
    copyist = mirror(loop, settings, warn=said.append)
    play(loop, 8)
    copyist.looked()
    before = aliases(client)
    with monkeypatch.context() as away:

        def refuse(*_: Any, **__: Any) -> None:
            raise ConnectionError("connection refused")

        away.setattr(copyist.store, "prepare", refuse)
        for _ in range(2):
            play(loop, 10)
            copyist.looked()
    assert len(said) == 1
    assert "connection refused" in said[0]
    assert aliases(client) == before
    copyist.looked()
    assert aliases(client) == now(loop) != before
    assert copies(client) == trained(loop)


def test_two_processes_mirror_once(loop: Loop, settings: Settings, client: Any) -> None:
    play(loop, 20)
    pair = mirror(loop, settings), mirror(loop, settings)
    pair[0].store.prepare()
    threads = [threading.Thread(target=one.looked) for one in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in pair:
        one.look()
    assert copies(client) == trained(loop)
    assert aliases(client) == now(loop)


@pytest.fixture
def server(tmp_path: Path, mlflow_tables: Path) -> Iterator[Server]:
    folder = tmp_path / "tracking"
    folder.mkdir()
    made = Server(folder, mlflow_tables)
    made.start()
    yield made
    made.kill()


@pytest.mark.timeout(240)
def test_a_server_holds_a_copy_and_catches_up_after_it_was_gone(loop: Loop, server: Server) -> None:
    said: list[str] = []
    client = client_of(server.settings)
    copyist = mirror(loop, server.settings, warn=said.append)
    play(loop, 8)
    copyist.looked()
    assert aliases(client) == now(loop)
    before = now(loop)
    server.kill()
    play(loop, 20)
    assert now(loop) != before
    copyist.looked()
    assert len(said) == 1
    server.start()
    copyist.look()
    assert (aliases(client), copies(client)) == (now(loop), trained(loop))
    # Files have gone over HTTP as well: nothing of them lies where this process wrote.
    assert list((server.folder / "kept").rglob("model.keepfit"))


@pytest.mark.timeout(240)
def test_a_model_is_adopted_from_a_server(loop: Loop, server: Server) -> None:
    loop.clock.sleep(DAY)
    spec = register(server.settings, *boosted("xgboost"), name="before")
    adopt(loop, spec, tracking_uri=server.settings.tracking_uri, reason="served so far", by="ada")
    state = loop.refold()
    assert state.champion == "v1"
    origin = state.versions["v1"].origin
    assert origin is not None
    assert (origin.model, origin.version, origin.flavor) == ("before", "1", "xgboost")
