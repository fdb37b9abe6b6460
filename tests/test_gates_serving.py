"""Gates on what it takes to serve a version: what they say of stated figures and of real models."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from keepfit import elsewhere, gates
from keepfit.errors import ConfigError
from keepfit.facts import Answer
from keepfit.footprint import LEAST, ROUNDS, Race
from keepfit.pickles import dumps
from keepfit.results.sentences import figures
from keepfit.testing.gates import Figures, compared

COMPARISON = compared(rows=200)


def judged(gate: Any, own: Figures | None = None, champion: Figures | None = None) -> Any:
    own = own or Figures()
    return gate.judge(replace(COMPARISON, footprint=own, champion_footprint=champion or Figures()))


@pytest.mark.parametrize(
    ("gate", "answer", "reason", "value"),
    [
        (gates.FasterThan(0.01), "promote", "8 ms for 1 row, 10 ms allowed", 0.008),
        (gates.FasterThan(0.005), "refuse", "8 ms for 1 row, 5 ms allowed", 0.008),
        (gates.FasterThan(2, rows=500), "refuse", "4 s for 500 rows, 2 s allowed", 4.0),
        (
            gates.FasterThan(times=10),
            "promote",
            "8 ms for 1 row, 8.0000 times the champion's 1 ms, 10 times allowed",
            8.0,
        ),
        (
            gates.FasterThan(times=1.5, rows=10),
            "refuse",
            "80 ms for 10 rows, 8.0000 times the champion's 10 ms, 1.5 times allowed",
            8.0,
        ),
        (gates.SmallerThan(6_000), "promote", "6,000 bytes, 6,000 allowed", 6_000),
        (gates.SmallerThan(5_999), "refuse", "6,000 bytes, 5,999 allowed", 6_000),
        (
            gates.SmallerThan(times=2.5),
            "refuse",
            "6,000 bytes, 3.0000 times the champion's 2,000, 2.5 times allowed",
            3.0,
        ),
    ],
    ids=["quick", "slow", "batch", "times", "batch-times", "small", "large", "larger"],
)
def test_a_figure_is_held_against_its_bound(
    gate: Any, answer: str, reason: str, value: float
) -> None:
    verdict = judged(gate, Figures(bytes=6_000, a_row=0.008))
    assert (verdict.answer.value, verdict.reason, verdict.gate) == (answer, reason, gate.name)
    assert verdict.value == pytest.approx(value)


@given(
    some.floats(1e-6, 1e3), some.floats(1e-6, 1e3), some.floats(0.1, 10), some.integers(1, 10_000)
)
def test_a_wider_bound_never_refuses_what_a_narrower_one_lets_pass(
    own: float, champion: float, times: float, rows: int
) -> None:
    both = Figures(a_row=own), Figures(a_row=champion)
    narrow, wide = (
        judged(gates.FasterThan(times=most, rows=rows), *both) for most in (times, 2 * times)
    )
    assert narrow.answer == Answer.REFUSE or wide.answer == Answer.PROMOTE


@pytest.mark.parametrize("gate", [gates.FasterThan(0.005), gates.SmallerThan(times=2)], ids=repr)
def test_people_read_figure_and_bound(gate: Any) -> None:
    verdict = judged(gate, Figures(bytes=6_000, a_row=0.008))
    assert figures(verdict) == verdict.reason


def test_what_goes_wrong_elsewhere_is_the_reason() -> None:
    assert judged(gates.Loads()).answer == Answer.PROMOTE
    verdict = judged(gates.Loads(), Figures(elsewhere="the process that loaded it crashed"))
    assert (verdict.answer, verdict.reason) == (
        Answer.REFUSE,
        "the process that loaded it crashed",
    )


def test_a_backtest_times_nothing_and_says_so() -> None:
    class Untimed(Figures):
        def seconds(self, rows: int) -> float | None:
            return None

    for gate in (gates.FasterThan(1e-9), gates.FasterThan(times=1e-9)):
        verdict = judged(gate, Untimed(), Untimed())
        assert verdict.answer == Answer.PROMOTE
        assert verdict.reason == "not timed: a backtest has no stopwatch"


def test_without_a_footprint_nothing_is_said_and_without_a_champion_only_limits_hold() -> None:
    unknown = replace(COMPARISON, footprint=None)
    alone = replace(COMPARISON, champion=None)
    for gate in (gates.FasterThan(1e-9), gates.SmallerThan(1), gates.Loads()):
        assert gate.judge(unknown).answer == Answer.NOT_ENOUGH
    for gate in (gates.FasterThan(times=1e-9), gates.SmallerThan(times=1e-9)):
        assert gate.judge(alone).reason == "no champion yet"
    assert gates.SmallerThan(1).judge(alone).answer == Answer.REFUSE


def test_they_are_asked_once_and_not_of_live_rows() -> None:
    every = (gates.FasterThan(1), gates.SmallerThan(1), gates.Loads())
    assert not any(gate.live for gate in every)


@pytest.mark.parametrize(
    ("gate", "given_", "words"),
    [
        (gates.FasterThan, {}, "one of seconds and times, got seconds=None and times=None"),
        (gates.FasterThan, {"seconds": 1, "times": 2}, "one of seconds and times"),
        (gates.FasterThan, {"seconds": 0}, "seconds to be a number above zero, got 0"),
        (gates.FasterThan, {"seconds": "5ms"}, "seconds to be a number above zero, got '5ms'"),
        (gates.FasterThan, {"times": float("nan")}, "times to be a number above zero"),
        (gates.FasterThan, {"seconds": 1, "rows": 0}, "rows to be a whole number from 1"),
        (gates.SmallerThan, {}, "one of bytes and times"),
        (gates.SmallerThan, {"bytes": 1.5}, "bytes to be a whole number from 1, got 1.5"),
        (gates.SmallerThan, {"times": -1}, "times to be a number above zero, got -1"),
        (gates.Loads, {"seconds": True}, "seconds to be a number above zero, got True"),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else repr(one)[:40],
)
def test_what_is_no_bound_is_refused(gate: Any, given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        gate(**given_)


# Measured -------------------------------------------------------------------------------


class Counting:
    """A model that notes how many rows it is asked about, in turn with others."""

    def __init__(self, log: list[tuple[str, int]], name: str) -> None:
        self.log, self.name = log, name

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        self.log.append((self.name, rows.height))
        return np.zeros(rows.height)


def test_models_answer_in_turns_and_a_size_is_timed_once() -> None:
    log: list[tuple[str, int]] = []
    models: Any = (Counting(log, "ours"), Counting(log, "theirs"))
    race = Race(pl.DataFrame({"x": range(7)}), models)
    first = race.seconds(20)  # more rows than there are: they are asked about more than once
    assert all(0 <= took < 1 for took in first)
    assert log == [("ours", 20), ("theirs", 20)] * (len(log) // 2)
    assert LEAST + 1 <= len(log) // 2 <= ROUNDS + 1
    asked = len(log)
    assert race.seconds(20) is first
    assert len(log) == asked
    race.seconds(1)
    assert log[asked] == ("ours", 1)


class Model:
    """What can be pickled and answers rows; ``ends`` ends the process that asks it."""

    task, classes, features = "regression", (), ("x",)

    def __init__(self, ends: bool = False) -> None:
        self.ends, self.at_home = ends, os.getpid()

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        if self.ends and os.getpid() != self.at_home:
            os._exit(3)
        return rows.get_column("x").to_numpy() + 1.0


def asked_elsewhere(model: Any, *, within: float = 60.0) -> np.ndarray | str:
    content = model if isinstance(model, bytes) else dumps(model)
    return elsewhere.answered(content, pl.DataFrame({"x": [1.0, 2.0]}), within=within)


def test_a_clean_process_answers_as_this_one() -> None:
    assert asked_elsewhere(Model()).tolist() == [2.0, 3.0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model(ends=True), "the process that loaded it ended with status 3"),
        (b"no model at all", "the process that loaded it ended with status 1: "),
    ],
    ids=["ends", "no model"],
)
def test_what_a_clean_process_cannot_do_is_said(model: Any, reason: str) -> None:
    found = asked_elsewhere(model)
    assert isinstance(found, str)
    assert found.startswith(reason)


def test_a_clean_process_is_waited_for_only_so_long() -> None:
    assert asked_elsewhere(Model(), within=0.01) == "it took longer than 0.01 s to load and answer"
