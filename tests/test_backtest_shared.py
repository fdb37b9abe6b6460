"""What the policies of a backtest share: work that hangs on the same things is done once, and tells the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepfit import Ledger, gates, scoring
from keepfit.artifacts import Artifacts
from keepfit.backtest.matrix import _Known
from keepfit.batch import Batch
from keepfit.facts import Finding, Outcome, comparable
from keepfit.lake.history import History
from keepfit.learners.labels import codes, surely_among
from keepfit.protocols import CheckContext
from keepfit.scoring import Scorer
from tests.worlds import pipeline, stream

T = TypeVar("T")
NAMES = ["never", "OnDecay", "OnDrift"]


def facts_in(home: Path) -> dict[str, list[Any]]:
    """Return all facts of the last backtest, without what was measured with a stopwatch."""
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        return {
            name: [(e.seq, e.at, comparable(e.fact)) for e in ledger.facts(name)]
            for name in ledger.pipelines()
        }


def played(home: Path, **parts: Any) -> dict[str, list[Any]]:
    """Return the facts of some policies, compared on a stream whose concept flips."""
    settings = {"metric": "accuracy", "enough": 10, "gate": [gates.NoWorse(within=0.02)]} | parts
    pipeline(stream(14, 60, flip_at=7), home, **settings).backtest(compare=NAMES, jobs=1)
    return facts_in(home)


def test_what_policies_share_changes_no_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[Any] = Counter()
    once = Scorer.once

    def counted(self: Scorer, key: Hashable, make: Callable[[], T]) -> T:
        asked[key] += 1
        return once(self, key, make)

    with monkeypatch.context() as counting:
        counting.setattr(Scorer, "once", counted)
        shared = played(tmp_path / "shared")
    assert max(asked.values()) > 1  # policies did come to the same things
    monkeypatch.setattr(Scorer, "once", lambda self, key, make: make())
    monkeypatch.setattr(History, "shared", lambda self, key, make: make())
    assert played(tmp_path / "alone") == shared


@dataclass
class Suspects:
    """A check that blocks a batch, and notes which it was asked about."""

    number: int
    asked: list[int] = field(default_factory=list)
    name: str = "Suspects"

    def check(self, batch: Batch, context: CheckContext) -> list[Finding]:
        """Block one batch."""
        self.asked.append(context.number)
        outcome = Outcome.BLOCK if context.number == self.number else Outcome.PASS
        return [Finding(check=self.name, outcome=outcome, message="looked at")]


def test_checks_are_asked_once_and_all_policies_go_by_what_they_said(tmp_path: Path) -> None:
    suspects = Suspects(5)
    found = played(tmp_path, checks=[suspects])
    assert sorted(suspects.asked) == sorted(set(suspects.asked))
    assert len(found) > len(NAMES)
    for told in found.values():
        set_apart = [fact.batch for _, _, fact in told if fact.kind == "Quarantined"]
        assert set_apart == [5]


def test_work_is_done_once_for_policies_and_each_time_for_a_pipeline(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> int:
        made.append("made")
        return len(made)

    together = Scorer(Artifacts(tmp_path), None, shared=True)
    assert [together.once(("a", 1), make) for _ in range(3)] == [1, 1, 1]
    assert together.once(("a", 2), make) == 2
    alone = Scorer(Artifacts(tmp_path), None)
    assert [alone.once(("a", 1), make) for _ in range(2)] == [3, 4]


def test_policies_keep_as_many_bytes_of_models_at_hand_as_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "HELD_OF_ALL", 35)
    scorer = Scorer(Artifacts(tmp_path), None, shared=True)
    kept = [scorer.keep(f"model {number:04}".encode()) for number in range(5)]
    for digest in kept:
        path = scorer.artifacts.path(digest)
        assert path is not None
        path.unlink()
    assert [scorer.content(digest) for digest in kept[2:]] == [
        b"model 0002",
        b"model 0003",
        b"model 0004",
    ]
    with pytest.raises(Exception, match="is missing"):
        scorer.content(kept[1])


class _Lake:
    """Batches of one to three rows, the second of which has no label."""

    def batch(self, number: int) -> pl.DataFrame:
        return pl.DataFrame({"_id": [10 * number + i for i in range(1 + number % 3)]})

    def scored(self, number: int, as_of: object) -> pl.DataFrame:
        rows = self.batch(number)
        labels = [None if i == 1 else number for i in range(rows.height)]
        return rows.with_columns(pl.Series("_label", labels, pl.Int64))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_models_are_asked_about_the_rows_of_their_batches_in_any_order(firsts: list[int]) -> None:
    known = _Known.__new__(_Known)
    known._lake, known._end, known._known = _Lake(), None, None  # type: ignore[assignment]
    for first in firsts:
        batches = list(range(first, 8))
        rows, labels, cuts = known.rows(batches)
        parts = [rows.slice(a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
        for number, part in zip(batches, parts, strict=True):
            whole = _Lake().scored(number, None).drop_nulls("_label")
            assert part.get_column("_id").to_list() == whole.get_column("_id").to_list()
        assert labels.to_list() == rows.get_column("_label").to_list()
        assert cuts[-1] == rows.height


@given(
    st.lists(st.integers(-9, 9), min_size=2, max_size=8, unique=True).map(sorted),
    st.lists(st.integers(-12, 12)),
)
@example([0, 1], [1, 0, 2, -1])
@example([-1, 0, 1], [-2, 1, 0, -1, 2])
def test_codes_are_the_places_of_whole_numbers_among_classes(
    classes: list[int], labels: list[int]
) -> None:
    found = codes(pl.Series(labels, dtype=pl.Int64), tuple(classes))
    assert found.tolist() == [classes.index(one) if one in classes else -1 for one in labels]


TEXTS = st.text(max_size=3)


@given(
    st.lists(TEXTS, min_size=2, max_size=8, unique=True).map(sorted),
    st.lists(TEXTS | st.none()),
    st.sampled_from([pl.String, pl.Categorical]),
)
@example(["", "a"], ["a", None, "", "b"], pl.Categorical)
def test_codes_are_the_places_of_texts_among_classes(
    classes: list[str], labels: list[str | None], kept_as: type[pl.DataType]
) -> None:
    several = [*labels, *classes]  # of which some at least are known
    series = pl.Series(several, dtype=pl.String).cast(kept_as)
    found = codes(series, tuple(classes))
    assert found.tolist() == [classes.index(one) if one in classes else -1 for one in several]
    assert not surely_among(series, tuple(classes))


@given(st.lists(st.booleans() | st.none()))
def test_codes_of_truth_values_are_zero_and_one(labels: list[bool | None]) -> None:
    series = pl.Series(labels, dtype=pl.Boolean)
    assert codes(series, (False, True)).tolist() == [-1 if one is None else one for one in labels]
    # No truth value is another class than these, and none is a number.
    assert surely_among(series, (False, True))
    assert not surely_among(series, (0, 1))
    assert not surely_among(pl.Series(["true"]), (False, True))
