"""A thousand releases, played with the code that decides them: how often it errs is as stated."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from keepfit import gates, metrics, rollouts
from keepfit.batch import Roles
from keepfit.facts import Entry, Fact, Promoted, RolledBack
from keepfit.protocols import Comparison
from keepfit.release import Release
from tests.lives import DAY, START, Life

PER_DAY = 200
STAGES = [rollouts.Shadow("2d"), rollouts.Canary(0.1, "4d")]
ACCURACY = metrics.get("accuracy", task="binary")


class Played:
    """As much of a loop as a release needs: versions without models, and rows of gains."""

    def __init__(self, gate: Any, gains: np.ndarray) -> None:
        life = Life().arrived(START)
        for name in ("v1", "v2"):
            life.started(START, name).trained(START, name)
        life.promoted(START, "v1")
        self.state = life.state()
        self.gains = gains
        self.pipeline = SimpleNamespace(
            name="churn", gate=[gate], rollout=rollouts.resolve(STAGES), unit=None, detectors=()
        )
        self.source = SimpleNamespace(roles=Roles(time="time"))
        self.scorer = SimpleNamespace(faults={}, model=lambda version: None)
        self.memory = SimpleNamespace(lake=SimpleNamespace(count_labelled=lambda **_: self.height))
        self.turns, self.backlog = self, False
        self.day = 0
        self.release = Release(cast("Any", self))
        begun = self.release.begin(self.state.versions["v2"], "", START)
        self.append_decision([begun], START)
        self.said: list[Fact] = []

    @property
    def height(self) -> int:
        return self.day * PER_DAY

    def labelled(self, now: datetime, **_: Any) -> pl.DataFrame:
        gains = self.gains[: self.height]
        return pl.DataFrame({"gain": gains}).with_columns(_batch=pl.lit(2))

    def comparison(self, rows: pl.DataFrame, new: Any, old: Any, *, look: int) -> Comparison:
        gains = rows.get_column("gain").to_numpy()
        return Comparison(
            metric=ACCURACY,
            labels=np.ones(gains.size, dtype=np.int64),
            challenger=np.where(gains < 0, 0.1, 0.9),
            champion=np.where(gains > 0, 0.1, 0.9),
            times=np.arange(gains.size),
            rows=pl.DataFrame(),
            look=look,
        )

    def values(self, comparison: Comparison) -> tuple[float | None, float | None]:
        return None, None

    def append_decision(self, new: list[Fact], at: datetime) -> bool:
        for fact in new:
            seq = self.state.seq + 1
            self.state.fold([Entry(pipeline="churn", seq=seq, at=at, fact=cast("Any", fact))])
        self.said = new
        return True

    def play(self) -> Fact:
        """Let a day after the other pass, and return how the release ended."""
        while self.state.rollout is not None:
            self.day += 1
            self.release.advance(START + self.day * DAY)
        return self.said[-1]


def gains_of(
    rng: np.random.Generator, gain: float, wave: float = 0.0, differ: float = 0.2
) -> np.ndarray:
    """Return gains of rows whose mean is so much, and swings from hour to hour by ``wave``."""
    size = 13 * PER_DAY
    swing = np.zeros(size)
    if wave:
        hours = rng.normal(scale=wave, size=size // 8 + 1)
        for i in range(1, hours.size):
            hours[i] += 0.5 * hours[i - 1]
        swing = np.repeat(hours, 8)[:size]
    up = np.clip((differ + gain + swing) / 2, 0, differ)
    drawn = rng.random(size)
    return np.where(drawn < up, 1.0, np.where(drawn < differ, -1.0, 0.0))


def ended(gate: Any, gain: float, releases: int, seed: int, wave: float = 0.0) -> dict[str, float]:
    """Return which share of releases was promoted, and which taken back before its time."""
    rng = np.random.default_rng(seed)
    promoted = early = 0
    for _ in range(releases):
        played = Played(gate, gains_of(rng, gain, wave))
        last = played.play()
        promoted += isinstance(last, Promoted)
        early += isinstance(last, RolledBack) and last.reason.startswith("worse")
    return {"promoted": promoted / releases, "early": early / releases}


def at_most(share: float, releases: int) -> float:
    """Return what a share so large does not exceed, but once in a thousand times."""
    return share + 3.1 * (share * (1 - share) / releases) ** 0.5


@pytest.mark.parametrize("wave", [0.0, 0.03], ids=["independent", "in waves"])
def test_of_challengers_worse_by_the_margin_no_more_pass_than_is_stated(wave: float) -> None:
    found = ended(gates.NoWorse(within=0.02), -0.02, 500, 1, wave)
    assert found["promoted"] <= at_most(0.3, 500)


def test_of_equal_challengers_no_more_pass_than_is_stated_where_a_gain_is_asked_for() -> None:
    found = ended(gates.Beats(), 0.0, 250, 2)
    assert found["promoted"] <= at_most(0.05, 250)


def test_challengers_that_are_no_worse_pass_and_few_are_taken_back_before() -> None:
    found = ended(gates.NoWorse(within=0.05), 0.0, 150, 3)
    assert found["early"] <= at_most(0.05, 150)
    assert found["promoted"] >= 0.95


def test_challengers_that_are_much_worse_are_taken_back_before_their_time() -> None:
    found = ended(gates.NoWorse(within=0.02), -0.15, 100, 4)
    assert found == {"promoted": 0.0, "early": 1.0}


def test_where_a_shadow_ends_is_said_by_the_clock() -> None:
    played = Played(gates.NoWorse(within=0.02), np.zeros(13 * PER_DAY))
    shares = []
    while played.state.rollout is not None:
        shares.append(played.state.rollout.fact.share)
        played.day += 1
        played.release.advance(START + played.day * DAY)
    assert shares == [0.0, 0.0, 0.1, 0.1, 0.1, 0.1]
