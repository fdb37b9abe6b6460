"""A concept that turns for good: the alarm is raised until a model serves that knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from tests.worlds import DAY, START, live, play, stream

from keepfit import Pipeline, executors, gates, sources, triggers
from keepfit.facts import Decided, Promoted, Scored
from keepfit.registry import State

ROWS, TURNS = 6_000, 3_000


def turning(seed: int = 0, turns: int = TURNS) -> pl.DataFrame:
    """Return rows twenty minutes apart whose labels turn to their opposite."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 3))
    sign = np.where(np.arange(ROWS) < turns, 1, -1)
    label = sign * (x[:, 0] + x[:, 1]) + 0.5 * rng.normal(size=ROWS) > 0
    times = [START + i * DAY / 72 for i in range(ROWS)]
    columns = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": label.astype(int)}
    return pl.DataFrame({"id": [f"r{i}" for i in range(ROWS)], "t": times} | columns)


def lived(frame: pl.DataFrame, home: Path, **parts: Any) -> list[Any]:
    """Return the facts of a backtest with the default recipes and an alarm on decay."""
    made = Pipeline(
        "turn",
        sources.Frame(frame, id="id", time="t", label="y"),
        LogisticRegression(),
        metric="accuracy",
        every="1d",
        executor=executors.Inline(),
        trigger=triggers.OnDecay(),
        home=home,
        **parts,
    )
    entries: list[Any] = []
    made.backtest(compare=False, listen=entries.append)
    return [entry.fact for entry in entries]


def of_kind(found: list[Any], kind: type) -> list[Any]:
    return [fact for fact in found if isinstance(fact, kind)]


@pytest.mark.parametrize(
    "parts", [{}, {"gate": []}, {"gate": gates.Fresher()}], ids=["default", "none", "fresher"]
)
def test_after_a_turn_the_accuracy_comes_back(parts: dict[str, Any], tmp_path: Path) -> None:
    found = lived(turning(), tmp_path, **parts)
    served = [
        (one.value, one.n) for one in of_kind(found, Scored) if one.from_ >= START + 55.5 * DAY
    ]
    values, n = np.array(served).T
    assert np.average(values, weights=n) > 0.8
    last = of_kind(found, Decided)[-1].decision
    assert not last.train
    assert last.parts[0].evidence["promised"] > 0.8


@pytest.mark.parametrize("seed", range(2))
def test_where_nothing_turns_nothing_is_trained_again(seed: int, tmp_path: Path) -> None:
    found = lived(turning(seed, turns=ROWS), tmp_path)
    asked = [one.decision.train for one in of_kind(found, Decided)]
    assert sum(asked) == 1


def test_what_a_champion_promised_is_read_from_the_ledger_as_it_was(tmp_path: Path) -> None:
    made = Pipeline(
        "churn",
        sources.Frame(stream(40, flip_at=20), id="id", time="time", label="label"),
        LogisticRegression(),
        metric="accuracy",
        every="1d",
        executor=executors.Inline(),
        gate=gates.Beats(0.99),
        trigger=triggers.OnDecay(),
        home=tmp_path,
    )
    loop = live(made)
    entries = play(loop, 40)
    asked = [
        one.fact for one in entries if isinstance(one.fact, Decided) and one.fact.decision.train
    ]
    assert len(asked) > 2, "it is tried again and again"
    champion = loop.state.expected
    assert champion is not None
    assert len(of_kind([one.fact for one in entries], Promoted)) == 1
    assert len(champion.first) == 4
    said = [one.decision.parts[0].evidence["promised"] for one in asked[1:]]
    assert len(set(said)) == 1, "what it promised stands"
    again = State().fold(loop.memory.ledger.facts("churn"))
    assert (again.asked, again.asked_before) == (loop.state.asked, loop.state.asked_before)
    assert again.versions == loop.state.versions
    assert State.loads(again.dumps()) == again
