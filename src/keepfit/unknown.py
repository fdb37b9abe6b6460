"""Rows that a model cannot answer, or of a class that it does not know: it has answered them wrong.

Leaving them out would let a model look perfect that cannot answer a third of the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit import answers
from keepfit.batch import LABEL
from keepfit.errors import SchemaMismatch
from keepfit.learners import novel
from keepfit.learners.labels import weights as weights_in
from keepfit.learners.novel import ENOUGH, SHARE, named
from keepfit.registry import strangers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.facts import Judged
    from keepfit.loop import Loop
    from keepfit.protocols import Metric, Model
    from keepfit.registry import State, Version
    from keepfit.scoring import Scorer

OF_ONE_CLASS = ("f1", "average_precision")
"""Metrics of two classes that are about the second one: they mean something else of several."""


class Rows(NamedTuple):
    """Codes of labels, scores and weights of rows."""

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None


def answered(
    scorer: Scorer,
    model: Model,
    labels: pl.Series,
    scores: np.ndarray,
    weights: np.ndarray | None,
    classes: Collection[str],
) -> tuple[Metric, Rows]:
    """Return rows as a metric takes them, and the metric.

    Those whose label is one of ``classes``, as text, and none of the model's own count as given no
    chance at all; other labels that it does not know, as a typing error, are left out. So are
    both where the metric cannot be had of a class more.
    """
    metric = scorer.metric(model)
    more = _of_one_more(scorer, metric, model) if classes else None
    found = placed(model, labels, scores, weights, () if more is None else classes)
    if more is not None and found.labels.max(initial=0) == len(model.classes):
        return more, found._replace(scores=_one_more(found.scores))
    return metric, found


def placed(
    model: Model,
    labels: pl.Series,
    scores: np.ndarray,
    weights: np.ndarray | None,
    classes: Collection[str],
) -> Rows:
    """Return rows whose label is a class: beyond those of the model where it does not know it."""
    import numpy as np

    codes = model.codes(labels)
    kept = codes >= 0
    if model.task == "regression" or kept.all():
        return Rows(codes, as_wrong(model.task, codes, scores), weights)
    if classes:
        wrong = ~kept & named(labels).is_in(list(classes)).fill_null(value=False).to_numpy()
        codes, kept = np.where(wrong, len(model.classes), codes), kept | wrong
    codes, scores = codes[kept], scores[kept]
    return Rows(
        codes,
        as_wrong(model.task, codes, scores),
        None if weights is None else weights[kept],
    )


def as_wrong(
    task: str, codes: np.ndarray, scores: np.ndarray, failed: np.ndarray | None = None
) -> np.ndarray:
    """Return scores in which rows without an answer have the wrong one.

    A class is given no chance at all. Of numbers it is the farther end of what labels mostly are,
    from the first of a hundred to the last but one: as wrong as whoever takes a low label for a
    high one, and yet no single great label decides over the metric; of labels that are mostly one
    number, it is as far off as they lie from that on average. ``failed`` says which rows are meant;
    without it, those whose score is no number.
    """
    import numpy as np

    from keepfit.metrics.evidence import finite_rows

    failed = ~finite_rows(scores) if failed is None else failed
    if not failed.any():
        return scores
    own, scores = codes[failed], scores.copy()
    if task == "regression":
        low, high = np.quantile(codes, (0.01, 0.99))
        if low == high:  # none may pass for answered right
            high = low + (float(np.abs(codes - low).mean()) or abs(low) or 1.0)
        scores[failed] = np.where(own - low > high - own, low, high)
    elif scores.ndim == 1:
        scores[failed] = own == 0
    else:
        others = np.full((own.size, scores.shape[1]), 1 / (scores.shape[1] - 1))
        others[np.arange(scores.shape[1]) == own[:, None]] = 0.0
        scores[failed] = others
    return scores


def scored(
    scorer: Scorer, state: State, model: Model, known: pl.DataFrame, scores: np.ndarray
) -> tuple[Metric, Rows, dict[str, dict[str, int]]]:
    """Return a metric, the labelled rows of a batch as it takes them, and what labels are not known.

    Those under ``unknown`` count as wrong, those under ``unlearnt`` are left out.
    """
    labels = known.get_column(LABEL)
    strange = novel.counted(labels, model.classes)
    new = classes(state.strangers, strange, known.height) if strange else set()
    metric, found = answered(scorer, model, labels, scores, weights_in(known), new)
    if not strange:
        return metric, found, {}
    wrong = new if metric is not scorer.metric(model) else set()
    return (
        metric,
        found,
        {
            "unknown": {name: n for name, n in strange.items() if name in wrong},
            "unlearnt": {name: n for name, n in strange.items() if name not in wrong},
        },
    )


def beside(
    scorer: Scorer, new: Model, old: Model, rows: pl.DataFrame
) -> tuple[Metric, np.ndarray, np.ndarray, np.ndarray]:
    """Return a metric of two models on labelled rows, the codes of labels, and what each answers.

    Codes are those of the new model's classes, and one more of all that the old one alone knows:
    the new one gives those rows no chance. A label that neither knows is -1.

    Rows that the old model cannot answer count as answered wrong, by the new one too where it
    cannot either; where the old one answers none at all, its scores are NaN. What the new one says
    that is no number stays so.

    Raises
    ------
    Exception
        What the new model raises on a row that the old one answers, or on all of them; or
        `SchemaMismatch`, where the old one lacks a column.
    """
    labels, metric = rows.get_column(LABEL), scorer.metric(new)
    codes = new.codes(labels)
    ours, known = _both(scorer, new, old, rows, codes)
    if new.task == "regression" or new.classes == old.classes:
        return metric, codes, ours, known
    import numpy as np

    rest, wide = len(new.classes), _placed_in(new, old, known)
    lost = (codes < 0) & (old.codes(labels) >= 0)
    more = _of_one_more(scorer, metric, new) if lost.any() else None
    if more is None:
        return metric, codes, ours, wide[:, 1] if ours.ndim == 1 else wide[:, :rest]
    return more, np.where(lost, rest, codes), _one_more(ours), wide


def _both(
    scorer: Scorer, new: Model, old: Model, rows: pl.DataFrame, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what two models answer, the rows that the old one cannot as wrong in either."""
    ours, known = answers.of(new, rows), scorer.lately.of(old, rows)
    if isinstance(known.error, SchemaMismatch):
        raise known.error
    fails = (known.right & ~ours.right).any() or not ours.right.any()
    if ours.error is not None and fails:
        raise ours.error
    if known.right.all() or not known.right.any():
        return ours.scores, known.scores
    return (
        as_wrong(new.task, codes, ours.scores, ~ours.right & ~known.right),
        as_wrong(old.task, old.codes(rows.get_column(LABEL)), known.scores),
    )


def translated(model: Model, other: Model, scores: np.ndarray) -> np.ndarray:
    """Return what another model of classes said, in the form of a model; classes it lacks left out."""
    wide = _placed_in(model, other, scores)
    return wide[:, 1] if model.task == "binary" else wide[:, : len(model.classes)]


def _placed_in(model: Model, other: Model, scores: np.ndarray) -> np.ndarray:
    """Return what another model said of each class of a model, and last of all that it lacks."""
    import numpy as np

    rest = len(model.classes)
    wide = np.zeros((len(scores), rest + 1))
    for name, chance in zip(other.classes, _each(scores).T, strict=True):
        wide[:, model.classes.index(name) if name in model.classes else rest] += chance
    return wide


def _one_more(scores: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.column_stack([_each(scores), np.zeros(len(scores))])


def _each(scores: np.ndarray) -> np.ndarray:
    """Return the scores of every class, of two classes too."""
    import numpy as np

    return scores if scores.ndim == 2 else np.column_stack([1 - scores, scores])


def _of_one_more(scorer: Scorer, metric: Metric, model: Model) -> Metric | None:
    """Return the metric of one class more than a model knows, where it is on the same scale."""
    from keepfit import metrics
    from keepfit.metrics.base import Base
    from keepfit.metrics.custom import Function

    if model.task == "regression" or not isinstance(metric, Base) or isinstance(metric, Function):
        return None
    alike = model.task == "multiclass" or metric.name not in OF_ONE_CLASS
    return metrics.get(scorer.spec, task="multiclass") if alike else None


def classes(known: Mapping[str, Sequence[int]], unknown: Mapping[str, int], rows: int) -> set[str]:
    """Return which labels of a batch, unknown to what served, are classes.

    Those of 20 rows or more, a hundredth at least of the labels since the first of them.
    """
    total = strangers.counted(known, unknown, rows).items()
    frequent = {label for label, (n, of) in total if n >= max(ENOUGH, SHARE * of)}
    return frequent & unknown.keys()


def learnt(loop: Loop, passed: Sequence[Judged], champion: Version) -> dict[str, int]:
    """Return how many classes challengers know that the champion does not, by version."""
    versions, known = loop.state.versions, set(loop.scorer.model(champion).classes)
    models = {one.version: loop.scorer.model(versions[one.version]) for one in passed}
    return {name: len({*model.classes} - known) for name, model in models.items()}


def due(loop: Loop, new: Collection[str]) -> bool:
    """Return whether a class can be learnt that the last turn of trainings from scratch did not."""
    state = loop.state
    trained = (one for one in reversed(state.versions.values()) if _from_scratch(one))
    last = next(trained, None) if new else None
    if last is None:
        return False
    models = [loop.scorer.model(one) for one in state.of_turn(last.turn) if _from_scratch(one)]
    return not set().union(*map(names, models)).issuperset(new)


def _from_scratch(version: Version) -> bool:
    return version.start == "scratch" and bool(version.artifact)


def names(model: Any) -> set[str]:
    """Return the classes of a model as text."""
    import polars as pl

    return set(named(pl.Series(list(model.classes))).to_list()) if model.classes else set()
