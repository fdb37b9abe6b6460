"""What is to be learnt from labels: which classes, or values on which scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.learners import labels
from keepfit.learners.torch.learner import CLASSIFICATION, LOSSES
from keepfit.learners.torch.tables import FAR_SHARE, beyond, measured

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.learners.torch.learner import Torch

NARROW = 50.0
"""How many times less than the champion's labels vary is another unit, as cents and euros are."""

ENOUGH = 10
"""Labels without which it cannot be told how much they vary."""


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


def classifies(learner: Torch, known: pl.Series, champion: Problem | None) -> bool:
    """Return whether labels are classes: as it is said, else as the champion's, else as they look.

    Whole numbers become floats where a source knows no other way to say that some are missing;
    zeros and ones alone are hardly ever values.
    """
    purpose = LOSSES.get(learner.loss) if isinstance(learner.loss, str) else None
    said = learner.task or purpose
    if said is not None:
        return said == CLASSIFICATION
    if champion is not None:
        return champion.task != "regression"
    if not (known.dtype.is_float() or known.dtype.is_decimal()):
        return True
    there = known.drop_nulls()
    there = there.filter(there.is_finite()) if known.dtype.is_float() else there
    return len(there) > 0 and bool(((there == 0) | (there == 1)).all())


def problem_of(known: pl.Series, classify: bool, champion: Problem | None, update: str) -> Problem:
    """Return what is learnt from labels; from a champion on, its classes or its scale stay.

    Labels that lie far off the champion's scale get one of their own: its network then answers
    on that, as it has learnt to tell high from low.

    Raises
    ------
    ConfigError
        The labels are fractions, and no classes.
    TrainingError
        There is one class only, or a new one where the head alone may learn.
    """
    if not classify:
        return _on_scale(labels.values(known), champion)
    classes = _classes(known, champion.classes if champion is not None else (), update)
    return Problem("binary" if len(classes) == 2 else "multiclass", classes)


def _on_scale(values: np.ndarray, champion: Problem | None) -> Problem:
    """Return what is learnt from values: on the champion's scale, unless they lie far off it."""
    shift, width = measured(values)
    # Labels that are all alike may have a deviation of rounding errors alone.
    alike = width <= 1e-12 * abs(shift)
    if champion is None or champion.task != "regression":
        return Problem("regression", (), shift, 1.0 if alike else width)
    # The fewer labels there are, the more of them have to say so: one alone may be an outlier.
    far = beyond(values, champion.shift, champion.width) > FAR_SHARE + len(values) ** -0.5
    narrow = not alike and len(values) >= ENOUGH and width * NARROW < champion.width
    if not far and not narrow:
        return champion
    return Problem("regression", (), shift, champion.width if alike else width)


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
