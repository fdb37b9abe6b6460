"""What is to be learnt from labels: which classes, or values on which scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.learners import labels
from keepfit.learners.torch.learner import CLASSIFICATION, LOSSES

if TYPE_CHECKING:
    import polars as pl

    from keepfit.learners.torch.learner import Torch


class Problem(msgspec.Struct, frozen=True):
    """What is learnt: classes, or values with their mean and deviation."""

    task: str
    classes: tuple[bool | int | str, ...] = ()
    shift: float = 0.0
    width: float = 1.0

    @property
    def single(self) -> bool:
        """Whether one output per row is enough."""
        return self.task != "multiclass"


def classifies(learner: Torch, dtype: pl.DataType, champion: Problem | None) -> bool:
    """Return whether labels are classes: as it is said, else as the champion's, else by type."""
    purpose = LOSSES.get(learner.loss) if isinstance(learner.loss, str) else None
    said = learner.task or purpose
    if said is not None:
        return said == CLASSIFICATION
    if champion is not None:
        return champion.task != "regression"
    return not (dtype.is_float() or dtype.is_decimal())


def problem_of(known: pl.Series, classify: bool, champion: Problem | None, update: str) -> Problem:
    """Return what is learnt from labels; from a champion on, its classes or its scale stay.

    Raises
    ------
    ConfigError
        The labels are fractions, and no classes.
    TrainingError
        There is one class only, or a new one where the head alone may learn.
    """
    if not classify:
        if champion is not None and champion.task == "regression":
            return champion
        values = labels.values(known)
        width = float(values.std())
        return Problem("regression", (), float(values.mean()), width if width > 0.0 else 1.0)
    classes = _classes(known, champion.classes if champion is not None else (), update)
    return Problem("binary" if len(classes) == 2 else "multiclass", classes)


def _classes(known: pl.Series, champion: tuple[Any, ...], update: str) -> tuple[Any, ...]:
    """Return the classes to learn: the champion's and the new ones, where they share any."""
    if not champion:
        return labels.classes_of(known)
    found = labels.codes(known, champion)
    if (found >= 0).all():
        return champion
    if (found >= 0).any() and update == "head":
        labels.refuse_new(known, found)
    present = labels.classes_of(known)
    if not (found >= 0).any() or {type(one) for one in present} != {type(champion[0])}:
        return present
    return tuple(sorted({*champion, *present}))
