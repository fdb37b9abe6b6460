"""What methods are given, checked: labels as codes, scores as chances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import ConfigError

Array = NDArray[np.float64]

SLACK = 1e-6
"""How far outside 0 to 1 a probability may lie by rounding."""


def check_level(level: float) -> None:
    """Raise when a level is not a share."""
    if not 0 < level < 1:
        raise ConfigError(f"expected a level between 0 and 1, got {level!r}")


def probabilities(scores: Any, width: int | None = None) -> tuple[Array, str]:
    """Return scores as an array, and why they cannot be used: not finite, or none; else "".

    ``width`` is how many columns are expected, 1 for a flat array, None for any.

    Raises
    ------
    ConfigError
        They are no numbers, the shape is another, or finite ones lie outside 0 to 1.
    """
    try:
        found = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"expected scores as numbers, got {type(scores).__name__} of something else: {error}",
            hint="give what predict_proba returns",
        ) from error
    if found.ndim not in (1, 2) or (found.ndim == 2 and found.shape[1] < 2):
        raise ConfigError(
            f"expected scores of shape (n,) or (n, classes), got shape {found.shape}",
            hint="for two classes, give the probability of the second: scores[:, 1]",
        )
    columns = 1 if found.ndim == 1 else found.shape[1]
    if width is not None and columns != width:
        told = "one probability a row" if width == 1 else f"{width} probabilities a row"
        raise ConfigError(f"expected {told}, as in the reference, got {columns}")
    if not len(found):
        return found, "no rows"
    low, high = float(found.min()), float(found.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(found if found.ndim == 1 else found.sum(axis=1))
        return found, f"{int(bad.sum()):,} of {len(found):,} scores are not finite"
    if low < -SLACK or high > 1 + SLACK:
        raise ConfigError(
            f"expected probabilities, between 0 and 1, got scores from {low:g} to {high:g}",
            hint="give predict_proba, not decision_function or log odds",
        )
    return (np.clip(found, 0, 1) if low < 0 or high > 1 else found), ""


def values(given: Any) -> tuple[Array, str]:
    """Return values as an array, and why they cannot be used: not finite, or none; else "".

    Raises
    ------
    ConfigError
        It is no flat array of numbers.
    """
    found = np.asarray(given)
    if found.ndim != 1 or found.dtype.kind not in "biuf":
        raise ConfigError(
            f"expected one number a row, got shape {found.shape} of type {found.dtype}"
        )
    found = found.astype(np.float64)
    if not found.size:
        return found, "no rows"
    bad = int((~np.isfinite(found)).sum())
    return found, f"{bad:,} of {found.size:,} values are not finite" if bad else ""


def reference(
    labels: Any, scores: Any, classes: Sequence[Any] | None
) -> tuple[NDArray[np.intp], Array]:
    """Return a reference's labels as codes of its classes, and its scores.

    Raises
    ------
    ConfigError
        Lengths differ, labels are missing or none of the classes, scores are not usable,
        or all labels are the same.
    """
    found, reason = probabilities(scores)
    if reason:
        raise ConfigError(f"expected a reference with finite scores, got {reason}")
    if classes is not None and len(classes) != max(2, found.shape[-1] if found.ndim == 2 else 2):
        raise ConfigError(
            f"expected a column of scores per class, got {len(classes)} classes "
            f"and scores of shape {found.shape}"
        )
    codes = _codes(np.asarray(labels), 2 if found.ndim == 1 else found.shape[1], classes)
    if len(codes) != len(found):
        raise ConfigError(f"expected a label per score, got {len(codes):,} and {len(found):,}")
    if codes.size and (codes == codes[0]).all():
        raise ConfigError(
            f"expected a reference with rows of two classes or more, got {codes.size:,} rows of one",
            hint="take a longer stretch of time as the reference",
        )
    return codes, found


def _codes(labels: NDArray[Any], width: int, classes: Sequence[Any] | None) -> NDArray[np.intp]:
    if labels.ndim != 1:
        raise ConfigError(f"expected one label a row, got labels of shape {labels.shape}")
    if classes is not None:
        place = {label: code for code, label in enumerate(classes)}
        codes = np.array([place.get(label, -1) for label in labels.tolist()], dtype=np.intp)
        unknown = codes < 0
    else:
        if labels.dtype.kind not in "biuf":
            raise ConfigError(
                f"expected labels as codes, 0 to {width - 1}, got {labels.dtype}",
                hint="name the classes in the order of the scores: fit(..., classes=[...])",
            )
        whole = np.isfinite(labels) if labels.dtype.kind == "f" else np.ones(labels.size, bool)
        codes = np.where(whole, labels, -1).astype(np.intp)
        unknown = (codes < 0) | (codes >= width) | (codes != np.where(whole, labels, -1))
    if unknown.any():
        first = labels[unknown].tolist()[0]
        known = f"one of {list(classes)!r}" if classes is not None else f"a code 0 to {width - 1}"
        raise ConfigError(
            f"expected every label to be {known}, got {first!r} "
            f"({int(unknown.sum()):,} of {labels.size:,} rows)",
            hint="leave out rows whose label is missing or of a class that the model does not know",
        )
    return codes
