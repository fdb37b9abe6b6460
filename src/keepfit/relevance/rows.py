"""What each labelled row can teach the next model about the present."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit.batch import LABEL, spread
from keepfit.relevance.probe import Probe, Table

if TYPE_CHECKING:
    import polars as pl

Array = NDArray[np.float64]

MILD = 0.7
"""The share of all rows over which a row's weight is halved as a rule: most streams move a little."""

HALVED = (0.3, 0.08)
"""The same where the past holds less; the shorter, the more the newest rows alone count."""

NEWEST = 0.1
"""The share of the rows, the newest, that stands for the present."""

JUDGES = 3_000
"""The most rows that say what the concept is now, and the most that judge."""

FEWEST = 400
"""Rows below which none counts more than another: too few to learn what pays."""

DRAWN = 5_000
"""The most rows that a probe is trained on."""

BLOCKS = 10
"""Blocks of time over which the gain of a weighing is averaged, for its standard error."""

SURE = 3.0
"""Standard errors by which a weighing must beat the rule before it is used.

Of four that do not matter, on ten blocks, one passes by chance in three trainings of a hundred.
"""

FAVOUR = 5.0
"""How much more, or less, a row of the same concept may count than another."""

RULE = "newer rows a little more"
ALIKE = "all rows alike"
SAME = "rows of the same concept"


@dataclass(frozen=True, slots=True)
class Weighing:
    """A weight per row, and how it was found: what won, and the loss that each one saved."""

    weights: Array
    chosen: str
    gains: Mapping[str, float]


def row_relevance(rows: pl.DataFrame, *, task: str, seed: int = 0) -> Array:
    """Return how much each labelled row can teach the next model about the present.

    Rows are in order of time. `weigh` says how, and what won.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> x, place = np.random.default_rng(0).normal(size=2000), np.arange(2000)
    >>> turned = pl.DataFrame({"x": x, "_label": np.where(place < 1000, x > 0, x < 0)})
    >>> relevance = row_relevance(turned, task="binary")
    >>> bool(relevance[1000:].mean() > 3 * relevance[:1000].mean())
    True
    """
    return weigh(rows, task=task, seed=seed).weights


def weigh(rows: pl.DataFrame, *, task: str, seed: int = 0) -> Weighing:
    """Find out on the newest rows which weights of the older ones pay.

    Whether the past still teaches something is a question of the stream: so several answers
    are tried. Newer rows a little more, which is the rule; all rows alike; newer rows much
    more, at two rates; and rows whose label fits the newest rows better than it fits the
    older ones, which finds a concept that comes back. For each a small model, the *probe*,
    is trained on as many older rows drawn by these weights, and scored on the newest. The
    rule stays unless another saves loss by more than three standard errors; of those that
    do, the best is taken.

    How uncertain the champion is of a row does not enter: to draw such rows more often did
    not pay where it was tried, because many of them are rows that nobody can get right.

    Parameters
    ----------
    rows
        Labelled rows in order of time, the labels in ``_label``.
    task
        ``"binary"``, ``"multiclass"`` or ``"regression"``.
    seed
        Draws the rows of the probes.

    References
    ----------
    Klinkenberg, Learning drifting concepts: example selection vs. example weighting (2004);
    Bickel, Brückner and Scheffer, Discriminative learning under covariate shift (2009), for
    the ratio of two models' likelihoods.
    """
    from threadpoolctl import threadpool_limits

    size = rows.height
    if size < FEWEST:
        return Weighing(np.ones(size), ALIKE, {})
    # How many threads there are would show in the last digits.
    with threadpool_limits(limits=1):
        return _Trial(Table.of(rows, LABEL, task), size - int(NEWEST * size), seed).run()


class _Trial:
    """Weights of older rows, put to the test on the newest ones.

    Of the newest rows the older half says what the concept is now, and the newer half
    judges. Rows next to each other are much alike, so that one must not do for the other.
    """

    def __init__(self, table: Table, cut: int, seed: int) -> None:
        self.table, self.cut = table, cut
        middle = (cut + table.rows) // 2
        self.shown = cut + spread(middle - cut, JUDGES)
        self.judges = middle + spread(table.rows - middle, JUDGES)
        rng = np.random.default_rng(seed)
        # The same chances for all, so that they differ by their weights alone.
        self.chances = np.log(rng.random(cut))
        self.drawn = min(DRAWN, cut // 2)

    def run(self) -> Weighing:
        """Return the weights that won."""
        size = self.table.rows
        ages = (size - 1 - np.arange(size)) / size
        weighings = {RULE: 0.5 ** (ages / MILD), ALIKE: np.ones(size)}
        for share in HALVED:
            weighings[f"halved every {share:.0%} of the rows"] = 0.5 ** (ages / share)
        weighings[SAME] = self._same_concept()
        losses = {name: self._loss(weights[: self.cut]) for name, weights in weighings.items()}
        gains = {name: losses[RULE] - loss for name, loss in losses.items()}
        worth = {name: float(gain.mean()) for name, gain in gains.items() if _sure(gain)}
        chosen = max(worth, key=lambda name: worth[name]) if worth else RULE
        found = {name: float(gain.mean()) for name, gain in gains.items()}
        return Weighing(weighings[chosen], chosen, found)

    def _loss(self, weights: Array) -> Array:
        """Return the loss on the judging rows of a probe trained on rows drawn by weights."""
        keys = self.chances / np.maximum(weights, 1e-12)
        drawn = np.sort(np.argpartition(-keys, self.drawn - 1)[: self.drawn])
        return Probe.fit(self.table, drawn).losses(self.judges)

    def _same_concept(self) -> Array:
        """Return how much better each label fits the newest rows than the older ones."""
        older = spread(self.cut, self.shown.size)
        now, then = Probe.fit(self.table, self.shown), Probe.fit(self.table, older)
        places = np.arange(self.cut)
        ratio = np.exp(then.losses(places) - now.losses(places))
        newest = np.full(self.table.rows - self.cut, FAVOUR)
        return np.concatenate([np.clip(ratio, 1 / FAVOUR, FAVOUR), newest])


def _sure(gain: Array) -> bool:
    """Return whether a gain is above zero by more than chance, rows being alike within blocks."""
    blocks = np.array([block.mean() for block in np.array_split(gain, BLOCKS)])
    error = float(blocks.std(ddof=1)) / BLOCKS**0.5
    return bool(gain.mean() > SURE * error and gain.mean() > 0)


def relevance_of(task: str, *, seed: int = 0) -> Any:
    """Return `row_relevance` for a task, as `Moment.relevance` wants it."""

    def relevance(rows: pl.DataFrame) -> Array:
        return row_relevance(rows, task=task, seed=seed)

    return relevance
