"""Whether a training learnt its rows: a model answers them better than one that never saw them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit import metrics
from keepfit.batch import TIME, border, infinite
from keepfit.challenger import CHEAP
from keepfit.facts import UNLEARNT, Fact, TrainingFailed, TrainingStarted

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop
    from keepfit.protocols import Comparison, Metric, Model
    from keepfit.registry import State, Version

FEWEST = 20
"""Rows without which nothing is said: the new leaves of a tree may be unlucky with a few."""

ASKED = 500
"""Newest rows that are asked at most."""

USUAL = 0.5
"""The share of what an update usually learns below which it is tried once more."""

ENOUGH, LOOKED_AT = 5, 9
"""Updates that say what is usual, at least and at most; of so few one that went wrong moves nothing."""

BACK = 64
"""Newest versions among which they are looked for."""

TOLERANCE = 0.001
"""The share by which a loss may grow and count as the same."""


class Learnt(NamedTuple):
    """The loss on rows that a training learnt, after it and ``before`` it; NaN where not known.

    ``better`` says whether the pipeline's metric is better on them all the same.
    """

    new: float = math.nan
    known: float = math.nan
    better: bool = False
    before: str = ""
    rows: int = 0

    @property
    def share(self) -> float | None:
        """By what share the loss is smaller than before; None where that is not known."""
        if not math.isfinite(self.known) or math.isnan(self.new):
            return None
        if self.known > 0 and math.isfinite(self.new):
            return 1 - self.new / self.known
        return -1.0 if self.new > 0 else 0.0

    @property
    def grown(self) -> bool:
        """Whether the loss is greater than before."""
        return self.share is not None and self.share < -TOLERANCE

    def __str__(self) -> str:
        return f"a loss of {self.new:.4g}, {self.known:.4g} by {self.before}, on {self.rows:,} rows"


def learnt(loop: Loop, version: Version, model: Any, *, all_rows: bool = True) -> Learnt:
    """Return how a model answers the rows it learnt, beside what would serve without it.

    It is asked those of its rows that the other has not seen, as the lake has them. Whatever
    comes next, a training makes the loss on its own rows smaller: where that is not so, other
    rows were learnt than these, or none. What is compared are the losses that trainings go by,
    the squared distance of probabilities (Brier 1950) or the distance of values. That is no
    estimate: it is about these rows alone, and not about those to come.

    Of rows that hold infinite values it was given none unless it learnt ``all_rows``.

    Among the rows of a model from scratch the newest may be few, and unlike the others once
    something has changed: where they are worse, those of all times are asked.
    """
    before = loop.state.versions.get(version.final_of or loop.state.champion or "")
    if before is None or not before.artifact or not loop.pipeline.gate:
        return Learnt()
    # The key of a training says its rows and its model.
    key = "learnt", version.key, version.updated, before.artifact, before.snapshot.to
    found = loop.scorer.once(key, lambda: _asked(loop, before, version, model, all_rows))
    return found._replace(before=before.name) if found.before else found


def _asked(loop: Loop, before: Version, version: Version, model: Any, all_rows: bool) -> Learnt:
    """Return how a model answers the rows it learnt beside the version before it."""
    rows = loop.turns.rows_of(version)
    if not all_rows:
        rows = rows.filter(~infinite(rows))
    new = rows.slice(border(rows.get_column(TIME), before.snapshot.to, "right")).tail(ASKED)
    if new.height < FEWEST:
        return Learnt()
    found = _beside(loop, before, model, new)
    if not found.grown or version.updated:
        return found
    # By chance, for a rhythm of rows may be one of their labels.
    drawn = rows.sample(min(ASKED, rows.height), seed=version.seed)
    return _beside(loop, before, model, drawn.sort(TIME))


def _beside(loop: Loop, before: Version, model: Any, rows: pl.DataFrame) -> Learnt:
    """Return how a model answers rows beside a version."""
    old = loop.scorer.model(before)
    try:
        comparison = loop.turns.comparison(rows, model, old, look=1)
    except Exception:  # a model of the user's own may fail in any way it likes
        return Learnt(math.inf, _known(loop, old, rows), False, before.name, rows.height)
    new, known = _both(_loss(model.task), comparison)
    better = new > known and _better(comparison)
    return Learnt(new, known, better, before.name, len(comparison.labels))


def wrong(state: State, version: Version, found: Learnt, *, same: bool) -> str:
    """Return why a training is taken for one that went wrong, or ``""``.

    The first time that is any that leaves its rows answered worse than before, and a cheap
    update that learnt less than half of what such updates usually do. The second time it is the
    former alone, and not where the ``same`` model came as the first time, which is no accident:
    small leaves may answer honest rows a little worse, and what serves may know newer rows than
    most of its own. The gate says what that is worth; a last fit, which no gate sees, went wrong.
    """
    again, cheap = version.retry_of is not None, version.update in CHEAP
    stands = again and same and not version.final_of
    # Another learner may lose in one measure what the metric asks for in another; leaves do not.
    if found.grown and (cheap or not found.better) and not stands:
        return f"answers rows it learnt worse than who never saw them: {found}"
    usual = _usual(state, version) if cheap and not again else None
    if usual is None or found.share is None or found.share >= USUAL * usual:
        return ""
    return f"learnt less than half of what is usual: {found}"


def again(loop: Loop, version: Version, ended: Fact) -> TrainingStarted | None:
    """Return the training that tries once more what did not learn its rows; None for any other."""
    failed = isinstance(ended, TrainingFailed) and ended.reason == UNLEARNT
    if not failed or version.retry_of is not None:
        return None
    began = version.ready_at if loop.simulated else loop.clock.now()
    return TrainingStarted(
        version=f"v{len(loop.state.versions) + 1}",
        turn=version.turn,
        challenger=version.challenger,
        snapshot=version.snapshot,
        start=version.start,
        update=version.update,
        seed=version.seed,
        ready_at=began + loop.training_time,
        # Another key, so that what went wrong is not recalled.
        key=f"{version.key} again",
        parent=version.parent,
        judged_from=version.judged_from,
        final_of=version.final_of,
        donor=version.donor,
        forecast=version.forecast,
        retry_of=version.name,
        afresh=version.afresh,
    )


def _usual(state: State, version: Version) -> float | None:
    """Return by what share the loss falls with updates like one; None where too few are known."""
    shares = list(islice(_shares(state, version), LOOKED_AT))
    return statistics.median(shares) if len(shares) >= ENOUGH else None


def _shares(state: State, version: Version) -> Iterator[float]:
    final = version.final_of is not None
    for one in islice(reversed(state.versions.values()), BACK):
        alike = one.challenger == version.challenger and (one.final_of is not None) == final
        if alike and one.learnt is not None:
            yield one.learnt


def _loss(task: str) -> Metric:
    return metrics.get("mae" if task == "regression" else "brier", task=task)


def _known(loop: Loop, model: Model, rows: pl.DataFrame) -> float:
    """Return the loss of a model alone; NaN where it cannot answer either."""
    try:
        comparison = loop.turns.comparison(rows, model, model, look=1)
    except Exception:  # as when a column that both know has gone
        return math.nan
    return _both(_loss(model.task), comparison)[1]


def _better(comparison: Comparison) -> bool:
    """Return whether the pipeline's metric is better than before, as where classes came to be weighed."""
    new, old = _both(comparison.metric, comparison)
    return new > old if comparison.metric.greater_is_better else new < old


def _both(metric: Metric, comparison: Comparison) -> tuple[float, float]:
    labels, weights = comparison.labels, comparison.weights
    new = metrics.value_of(metric, labels, comparison.challenger, weights)
    return new, metrics.value_of(metric, labels, comparison.champion, weights)
