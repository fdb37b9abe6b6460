"""The level that what serves keeps, and where it broke."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import msgspec

USUAL = 16
"""Newest batches of a level that tell what is usual on it."""

FEWEST = 5
"""Batches before which nothing is usual yet."""


class Rule(NamedTuple):
    """How far below usual values another no longer belongs to their level.

    ``deviations`` of them, more where they are few: ``(1 + few / how many)`` times as many. They
    are those above the lowest ``share`` of a level, of ``at_least`` so many.
    """

    share: float
    at_least: int
    deviations: float
    few: float


RULES = (Rule(0.0, FEWEST, 3.0, 2.0), Rule(0.25, 8, 4.0, 5.0), Rule(0.5, 11, 5.5, 8.0))
"""Ways to have fallen, of which one is enough: less than one batch in a hundred has by chance.

Beside all values, as for normal ones; and beside the higher ones alone, as the lowest may be what
fell and was not seen, which would hide for long what falls next. Higher ones lie closer together,
so that it takes more of their deviations."""

RUNS, LONG, CHANCE = (2, 4), 8, 1.5
"""How many of the newest batches may show together that they fell, beside how many before them; and how
many of its standard errors values may scatter by for that.

Where a batch holds few rows of a rare class its value scatters so far that none alone would show that
half of what is usual is lost. Where one would, runs of them are not asked: they see slow changes too, which
the windows follow without. What scatters by more than the draw of its rows has values that hang
together, and low ones in a row are no news."""

ACCEPTED = 8
"""Batches after which a level that did not come back is the usual one."""


class Level(msgspec.Struct):
    """Whether what serves does far worse than it did, and since when.

    Values come batch by batch, the greater the better. ``since`` is the event time of the first row
    of the batch on which they last fell for long, ``batch`` its number. A fall is forgotten once
    a version does as well again that learnt no row from it on: nothing has changed then.
    ``below`` counts the batches since they fell, while they have not come back: 0 on a level. One
    that stays below is the usual one in the end; one that falls further has fallen again.

    Where no single value is far enough, the mean of the newest two or four may be; then their mean
    tells too whether they came back.

    A change is seen in what serves and not in the rows: it is what counts for which rows to train
    on, and is what ADWIN keeps its window by (Bifet and Gavaldà, Learning from time-changing data with
    adaptive windowing, 2007); unlike there a single far value is enough, as a batch is a mean
    of many rows. Where none is far enough, some in a row add up (Page, Continuous inspection schemes,
    1954).
    """

    since: datetime | None = None
    batch: int = 0
    below: int = 0
    usual: list[float] = []
    fresh: list[float] = []
    scatter: list[float] = []
    fell: datetime | None = None
    before: tuple[datetime | None, int] = (None, 0)
    run: int = 1
    places: list[tuple[datetime, int]] = []

    @property
    def told(self) -> str:
        """That what serves fell, while it has not come back; else ``""``."""
        if not self.below:
            return ""
        return f"what serves fell with batch {self.batch}, and has not come back since"

    def take(
        self,
        value: float,
        batch: int,
        since: datetime,
        *,
        learnt_to: datetime,
        error: float = 0.0,
        rows: int = 1,
    ) -> None:
        """Take in what a version reached on a batch.

        Parameters
        ----------
        value
            What it reached.
        batch
            The number of the batch, greater than those before.
        since
            The event time of the first of its rows that came in order.
        learnt_to
            The event time of the newest row that the version was trained on.
        error
            The standard error of the value, where it is known.
        rows
            How many rows the batch has.
        """
        if not math.isfinite(value):
            return
        own, error = error, self._unsure(error, rows)
        if not self.below:
            run = self._falling(value, error)
            if not run:
                self._usually(value, batch, since)
                if own > 0:
                    self.scatter = [*self.scatter[-USUAL + 1 :], own * math.sqrt(rows)]
                return
            self.before = self.since, self.batch
            self._fall(value, batch, since, run)
            self.fell = self.since
        elif not self._fallen(value, error):
            if self.fell is None or learnt_to < self.fell:
                self.since, self.batch = self.before
            self._usually(value, batch, since)
            self.below = 0
        elif _fell(value, self.usual, error, beside=_mean(self.fresh[: self.run])):
            self._fall(value, batch, since)
        else:
            self.below, self.fresh = self.below + 1, [*self.fresh, value]
            if self.below > ACCEPTED:
                self.usual, self.places, self.below = self.fresh, [], 0

    def _usually(self, value: float, batch: int, since: datetime) -> None:
        """Keep a value of the level, and where the newest ones stand, as a run may begin there."""
        self.usual = [*self.usual[-USUAL + 1 :], value]
        self.places = [*self.places[-RUNS[-1] + 2 :], (since, batch)]

    def _falling(self, value: float, error: float) -> int:
        """Return how many of the newest batches show that they fell, one of them where that is enough."""
        if _fell(value, self.usual, error):
            return 1
        for run in RUNS:
            rest, newest = self.usual[: 1 - run], self.usual[1 - run :]
            known = len(rest) >= LONG and len(self.places) >= run - 1
            if known and _slid([*newest, value], rest, error):
                return run
        return 0

    def _fallen(self, value: float, error: float) -> bool:
        """Whether what fell is still down: by as many batches as had shown it."""
        if self.run == 1:
            return _fell(value, self.usual, error)
        return _slid([*self.fresh, value][-self.run :], self.usual, error)

    def _unsure(self, error: float, rows: int) -> float:
        """Return the standard error that so many rows have on the level.

        What fell scatters more itself: most of its rows may lose no more than before, and some far
        more, as where only a part of the rows has changed.
        """
        if len(self.scatter) < FEWEST:
            return error
        return math.hypot(*self.scatter) / math.sqrt(len(self.scatter) * max(rows, 1))

    def _fall(self, value: float, batch: int, since: datetime, run: int = 1) -> None:
        places = [*self.places[len(self.places) + 1 - run :], (since, batch)]
        self.since, self.batch = places[0]
        self.fresh = [*self.usual[len(self.usual) + 1 - run :], value]
        self.usual = self.usual[: len(self.usual) + 1 - run]
        self.places, self.run, self.below = [], run, run


def beneath(value: float, usual: Sequence[float], error: float = 0.0) -> float:
    """Return by how many standard deviations of two or more values another is below their mean.

    Where the standard error of that one is greater than their deviation, by how many of it.
    """
    # In a unit in which squares and sums of them are numbers.
    _, exponent = math.frexp(max(map(abs, (value, error, *usual))))
    value, error, *usual = (math.ldexp(one, -exponent) for one in (value, error, *usual))
    # A mean of equal values may be none of them, by the last bit.
    mean = min(max(math.fsum(usual) / len(usual), min(usual)), max(usual))
    deviation = math.hypot(*(one - mean for one in usual)) / math.sqrt(len(usual) - 1)
    below, spread = mean - value, max(deviation, error)
    return below / spread if spread > 0 else math.copysign(math.inf, below) if below else 0.0


def _fell(value: float, usual: Sequence[float], error: float, beside: float | None = None) -> bool:
    """Whether a value is too far below usual ones to be one of them, or as far below one beside."""
    ordered, size = sorted(usual), len(usual)
    for rule in RULES:
        rest = ordered[int(rule.share * size) :]
        if size >= rule.at_least and _beyond(value, rest, error, beside, rule):
            return True
        # The higher ones may be equal for no other reason than that values come in steps.
        error = max(error, min((b - a for a, b in pairwise(ordered) if b > a), default=math.inf))
    return False


def _slid(newest: Sequence[float], usual: Sequence[float], error: float) -> bool:
    """Whether the mean of some values is too far below that of usual ones to be of their level."""
    many, size, middle = len(newest), len(usual), _mean(usual)
    allowed = RULES[0].deviations * (1 + RULES[0].few / size)
    shown_by_one = beneath(middle - abs(middle) / 2, usual, error) > allowed
    if shown_by_one or beneath(middle - CHANCE * error, usual) < 1:
        return False
    # Values that follow each other may be alike, and means of them lie further apart then.
    means = [_mean(usual[i : i + many]) for i in range(size - many + 1)]
    usually = _mean(means)
    apart = math.hypot(*(one - usually for one in means)) / math.sqrt(len(means) - 1)
    error = max(error, apart * math.sqrt(many))
    return beneath(_mean(newest), usual, error) > allowed * math.sqrt(1 / many + 1 / size)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(one / len(values) for one in values)


def _beyond(
    value: float, usual: Sequence[float], error: float, beside: float | None, rule: Rule
) -> bool:
    """Whether a value lies further below usual ones, or one beside, than a rule allows."""
    known = 0.0 if beside is None else beneath(beside, usual, error)
    # What is known of few is known badly: their mean and spread are unsure themselves.
    allowed = rule.deviations * (1 + rule.few / len(usual))
    return beneath(value, usual, error) > known + allowed
