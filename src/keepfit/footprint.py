"""What it takes to serve a version, measured for the gates that ask."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from keepfit import answers
from keepfit.elsewhere import answered
from keepfit.scoring import TOLERANCE

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop
    from keepfit.protocols import Comparison, Model
    from keepfit.registry import Version

ROUNDS = 50
"""How often rows are answered at most, of which the quickest time counts …"""

BUDGET = 2.0
"""… and the seconds after which no further round begins, once there were …"""

LEAST = 3
"""… so many."""

TRIED = 200
"""Rows that a clean process is asked about, the newest ones."""


def measured(loop: Loop, comparison: Comparison, version: Version, champion: Version) -> Comparison:
    """Return a comparison whose gates may ask what it takes to serve both versions."""
    both = Race(comparison.rows, (loop.scorer.model(version), loop.scorer.model(champion)))
    timed = None if loop.simulated else both
    return replace(
        comparison,
        footprint=Serving(loop, version, comparison.rows, timed, 0),
        champion_footprint=Serving(loop, champion, comparison.rows, timed, 1),
    )


class Race:
    """Models that answer the same rows in turns, so that what else the machine does meets all."""

    def __init__(self, rows: pl.DataFrame, models: tuple[Model, ...]) -> None:
        self._rows, self._models = rows, models
        self._took: dict[int, list[float]] = {}

    def seconds(self, rows: int) -> list[float]:
        """Return the quickest time of each model for so many rows at once; measured once.

        It is that of rows which both can answer, and 0 of a model that answers none.
        """
        if rows not in self._took:
            self._took[rows] = self._run(rows)
        return self._took[rows]

    def _asked(self, rows: int) -> pl.DataFrame:
        """Return the newest rows; where there are too few of them, more than once."""
        import numpy as np

        return self._rows[np.arange(-rows, 0) % self._rows.height]

    def _run(self, count: int) -> list[float]:
        import numpy as np

        rows, timed = self._asked(count), list(enumerate(self._models))
        try:
            for model in self._models:
                model.predict(rows)  # the first answer may build what the others use
        except Exception:  # as on a row that neither can answer
            rights = [answers.of(model, self._rows).right for model in self._models]
            timed = [one for one in timed if rights[one[0]].any()]
            both = np.logical_and.reduce([rights[place] for place, _ in timed])
            if not (timed and both.any()):
                return [0.0] * len(self._models)
            self._rows = self._rows.filter(both)
            rows = self._asked(count)
        best = dict.fromkeys(range(len(self._models)), 0.0) | {one: math.inf for one, _ in timed}
        until = time.perf_counter() + BUDGET
        for turn in range(ROUNDS):
            if turn >= LEAST and time.perf_counter() > until:
                break
            for place, model in timed:
                start = time.perf_counter()
                model.predict(rows)
                best[place] = min(best[place], time.perf_counter() - start)
        return list(best.values())


class Serving:
    """The footprint of one of two versions that are compared."""

    def __init__(
        self, loop: Loop, version: Version, rows: pl.DataFrame, race: Race | None, place: int
    ) -> None:
        self._loop, self._version, self._rows = loop, version, rows
        self._race, self._place = race, place

    def size(self) -> int:
        """Return the bytes of the version's artifact."""
        return len(self._content())

    def seconds(self, rows: int) -> float | None:
        """Return how long it takes to answer so many rows at once; None in a backtest."""
        return None if self._race is None else self._race.seconds(rows)[self._place]

    def trouble(self, within: float) -> str:
        """Return why a clean process does not answer as this one does, or ``""``."""
        import numpy as np

        model = self._loop.scorer.model(self._version)
        # What it cannot answer the champion cannot either, or it would not have come this far.
        rows, _ = answers.answered(model, self._rows.tail(TRIED))
        rows = rows.select(name for name in model.features if name in rows.columns)
        there = answered(self._content(), rows, within=within)
        if isinstance(there, str):
            return there
        here = np.asarray(model.predict(rows))
        if here.shape != there.shape:
            return f"it answers in the shape {there.shape} elsewhere, and {here.shape} here"
        alike = np.isclose(here, there, rtol=1e-6, atol=TOLERANCE, equal_nan=True)
        wrong = int((~alike.reshape(rows.height, -1).all(axis=1)).sum())
        return f"it answers {wrong:,} of {rows.height:,} rows otherwise elsewhere" if wrong else ""

    def _content(self) -> bytes:
        return self._loop.memory.artifacts.get(self._version.artifact)
