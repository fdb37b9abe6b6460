"""Metrics that keepfit does not know: functions, and scorers of scikit-learn."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keepfit.errors import ConfigError
from keepfit.metrics.base import NOTHING, Array, Base, Bounds, Labels, Weights, around_sections

LESS_IS_BETTER = ("_loss", "_error", "_deviance")
"""How scikit-learn ends the names of functions of which less is better."""


class Function(Base):
    """A metric from a function of labels and scores.

    Use it to say which direction is better or to give a name; a bare function does for the
    rest. The function sees codes of classes (0 and 1) or values, and scores; and what rows
    weigh, where that differs, if it has a parameter ``sample_weight``.

    Parameters
    ----------
    function
        Takes labels and scores and returns a number.
    greater_is_better
        When not given: the function's attribute of this name; else false for names that end
        in ``_loss``, ``_error`` or ``_deviance``, and true for the rest.
    name
        How facts call it; the function's own name when not given.

    Raises
    ------
    ConfigError
        What was given cannot be called.

    Examples
    --------
    >>> import numpy as np
    >>> def furthest(labels, scores):
    ...     return np.abs(labels - scores).max()
    >>> metric = Function(furthest, greater_is_better=False)
    >>> metric.value(np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    0.5
    """

    reach = (float("-inf"), float("inf"))

    def __init__(
        self,
        function: Callable[..., float],
        *,
        greater_is_better: bool | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"expected a function of labels and scores, got {function!r}")
        own = str(getattr(function, "__name__", type(function).__name__))
        if greater_is_better is None:
            stated = getattr(function, "greater_is_better", None)
            greater_is_better = not own.endswith(LESS_IS_BETTER) if stated is None else bool(stated)
        self.function = function
        self.name = name or own
        self.greater_is_better = greater_is_better

    def __repr__(self) -> str:
        return f"Function({self.name}, greater_is_better={self.greater_is_better})"

    @property
    def weighs(self) -> bool:
        """Whether rows may weigh differently: the function takes ``sample_weight``."""
        try:
            return "sample_weight" in inspect.signature(self.function).parameters
        except (TypeError, ValueError):  # some that are written in C do not tell
            return False

    def _call(self, labels: Labels, scores: Array, weights: Weights) -> float:
        return float(self.function(labels, scores, **_given(weights)))

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        varied = bool((labels != labels[0]).any())
        try:
            if varied:
                return self._call(labels, scores, weights)
            # With one class many functions are not defined, and warn or raise.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._call(labels, scores, weights)
        except Exception as error:
            if not varied:
                return NOTHING
            raise ConfigError(
                f"metric {self.name!r} raised {type(error).__name__} "
                f"on {len(labels)} rows: {error}",
                hint="it is called with labels as codes (0, 1, …) or values, and with scores; "
                "wrap a function of predicted classes with sklearn.metrics.make_scorer",
            ) from error

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        return around_sections(self.value, labels, scores, level, weights)


class Scorer(Function):
    """A metric from a scorer of scikit-learn, as ``make_scorer`` returns it.

    The value is that of the function behind it, so that an error stays positive.

    Parameters
    ----------
    scorer
        What ``make_scorer`` or ``get_scorer`` returned.
    classes
        The labels behind the codes; used when the scorer names one, ``pos_label="yes"``.
    name
        How facts call it; the name of the function behind it when not given.

    Examples
    --------
    >>> from sklearn.metrics import get_scorer
    >>> import numpy as np
    >>> metric = Scorer(get_scorer("neg_mean_absolute_error"))
    >>> metric.value(np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    0.25
    """

    def __init__(
        self, scorer: Any, *, classes: tuple[Any, ...] = (), name: str | None = None
    ) -> None:
        super().__init__(scorer._score_func, greater_is_better=scorer._sign > 0, name=name)
        self.options = dict(getattr(scorer, "_kwargs", {}))
        method = scorer._response_method
        self.methods = (method,) if isinstance(method, str) else tuple(method)
        named = "pos_label" in self.options or "labels" in self.options
        self.classes = classes if named else ()

    def __repr__(self) -> str:
        return f"Scorer({self.name}, greater_is_better={self.greater_is_better})"

    def _call(self, labels: Labels, scores: Array, weights: Weights) -> float:
        classify = self.methods == ("predict",) and labels.dtype.kind in "iub"
        answers: Any = scores
        if classify:
            answers = (scores > 0.5).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        if self.classes:
            names = np.asarray(self.classes)
            labels = names[labels.astype(np.intp)]
            answers = names[answers] if classify else answers
        return float(self.function(labels, answers, **self.options, **_given(weights)))


def _given(weights: Weights) -> dict[str, Array]:
    return {} if weights is None else {"sample_weight": weights}
