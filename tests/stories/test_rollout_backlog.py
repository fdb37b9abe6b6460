"""A backlog with a rollout: stages pass as they would have when its rows were new."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.shell import FILE, keepfit
from tests.worlds import stream

ROLLED = FILE.replace("gates, sources", "gates, rollouts, sources").replace(
    "    enough=50,\n",
    '    enough=50,\n    rollout=[rollouts.Shadow("1d"), rollouts.Canary(0.2, "1d")],\n',
)


@pytest.mark.story
def test_a_backlog_is_rolled_out_as_it_would_have_been(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "churn.py").write_text(ROLLED)
    stream(60, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    said = keepfit(tmp_path, "run", "churn.py", "--once")
    assert said.status == 0
    told = list(keepfit(tmp_path, "log", "--json"))
    kinds = [one["kind"] for one in told]
    assert kinds.count("Promoted") > 1
    rolled = [one for one in told if one["kind"] == "RolledOut"]
    assert [one["share"] for one in rolled[:-3:-1]] == [0.0, 0.2]
    assert "for 1 d at least" in said.err
    # Counted on the rows' own time, which is long past.
    assert all(one["began"] < "2025" for one in rolled[1:])
