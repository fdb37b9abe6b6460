"""What a row costs: the losses that a trigger weighs, from a metric or from a cost of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from keepfit import triggers
from keepfit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from keepfit.protocols import Metric, Model, Trigger

Losses: TypeAlias = "Callable[[np.ndarray, np.ndarray], np.ndarray]"
"""From labels and scores, the loss of each row."""


def loss(metric: Metric, cost: Any, model: Model) -> tuple[str, Losses]:
    """Return the name and the function of the loss of each row.

    Raises
    ------
    ConfigError
        The metric has no loss for each row, and no cost was given that has.
    """
    from keepfit import metrics

    if cost is not None and not isinstance(cost, str):
        return getattr(cost, "__name__", "cost"), _checked(cost)
    if isinstance(cost, str):
        metric = metrics.get(cost, task=model.task, classes=model.classes)
    if not _rowwise(metric):
        raise _ranking(metric.name)
    return metric.name, cast("Losses", metric.losses)


def check(trigger: Trigger, metric: Any) -> None:
    """Check that what a trigger weighs can be measured, as far as it is known before a model.

    Raises
    ------
    ConfigError
        The metric has no loss for each row, or parts of the trigger count costs differently.
    """
    asking = triggers.probing(trigger)
    if len({repr(one.cost) for one in asking}) > 1:
        given = " and ".join(repr(one) for one in asking)
        raise ConfigError(
            f"expected one cost in a trigger, got {given}", hint="give every Pays the same cost="
        )
    cost = asking[0].cost if asking else None
    if not asking or callable(cost):
        return
    spec = metric if cost is None else cost
    found = None if spec is None else _tasked(spec)
    if found is not None and not _rowwise(found):
        raise _ranking(found.name)


def _tasked(spec: Any) -> Metric | None:
    """Return a metric for the first task that it can be had for."""
    from keepfit import metrics

    for task in metrics.TASKS:
        try:
            return metrics.get(spec, task=task, classes=(0, 1))
        except ConfigError:
            continue
    return None


def _rowwise(metric: Metric) -> bool:
    """Return whether a metric is made of losses of rows."""
    import numpy as np

    try:
        return metric.losses(np.array([0.0, 1.0]), np.array([0.25, 0.75])) is not None
    except Exception:  # it has losses, of other labels or scores than these
        return True


def _ranking(name: str) -> ConfigError:
    return ConfigError(
        f"Pays: expected a metric with a loss for each row, got {name!r}",
        hint='add what a row costs: Pays(cost="log_loss"), or a function of labels and scores '
        "that returns one number per row",
    )


def _checked(cost: Callable[[Any, Any], Any]) -> Losses:
    """Return a cost function of the user's whose answers are looked at."""
    import numpy as np

    def losses(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        told = np.asarray(cost(labels, scores), dtype=np.float64)
        if told.shape != labels.shape:
            name = getattr(cost, "__name__", "cost")
            raise ConfigError(
                f"Pays: expected {name} to return one number per row ({len(labels)}), "
                f"got the shape {told.shape}"
            )
        return told

    return losses
