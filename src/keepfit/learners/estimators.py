"""Estimators as keepfit sees them: names, parameters, what they are for, copies to train."""

from __future__ import annotations

import copy
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from keepfit.errors import ConfigError
from keepfit.parts import written

LONGEST_NAME = 300
VALUES_PER_THREAD = 100_000
"""Numbers a thread must have to work on before another one pays for itself."""

HISTOGRAMS = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
BOOSTED = ("BaseGradientBoosting",)
_FORESTS = ("ForestClassifier", "ForestRegressor")
_TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor")
_LOSSES = ("log_loss", "squared_error")
_MEANS = ("gini", "entropy", "log_loss", "squared_error", "friedman_mse", "poisson")
"""What trees split by where their leaves hold means of labels."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def is_estimator(value: Any) -> bool:
    """Return whether a value trains as scikit-learn's estimators do."""
    return callable(getattr(value, "fit", None)) and callable(getattr(value, "predict", None))


def packages(value: Any) -> list[str]:
    """Return the packages of a value's class and of those it derives from."""
    return [cls.__module__.partition(".")[0] for cls in type(value).__mro__]


def derives(value: Any, package: str, *names: str) -> bool:
    """Return whether a value's class is, or derives from, a class of a package, without importing it."""
    return any(
        cls.__name__ in names and cls.__module__.partition(".")[0] == package
        for cls in type(value).__mro__
    )


def clone(estimator: Any) -> Any:
    """Return an estimator with the same parameters that has not been trained.

    Raises
    ------
    ConfigError
        The estimator cannot be copied.
    """
    try:
        if derives(estimator, "catboost", "CatBoost"):
            # It copies lists that it is given, which scikit-learn's `clone` does not forgive.
            return type(estimator)(**copy.deepcopy(estimator.get_params()))
        if hasattr(estimator, "get_params") and "sklearn" in sys.modules:
            from sklearn.base import clone as cloned

            return cloned(estimator)
        return copy.deepcopy(estimator)
    except Exception as error:
        raise ConfigError(
            f"expected an estimator that can be copied, got {type(estimator).__name__}: {error}",
            hint="`__init__` of an estimator stores its arguments unchanged and does nothing else",
        ) from error


def parameters(estimator: Any, *, deep: bool = False) -> dict[str, Any]:
    """Return an estimator's parameters, or none where it does not tell them."""
    if not hasattr(estimator, "get_params"):
        return {}
    found: dict[str, Any] = estimator.get_params(deep=deep)
    return found


def as_json(value: Any) -> Any:
    """Return a value as JSON can hold it: estimators and functions by name."""
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return as_json(value.item())
    return described(value)


def described(value: Any) -> str:
    """Return a value as the call that makes it, an estimator with what differs from its defaults."""
    if is_estimator(value) or hasattr(value, "get_params"):
        text = _called(value)
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(described(one) for one in value)}]"
    elif isinstance(value, type) or callable(value):
        text = getattr(value, "__qualname__", type(value).__name__)
    elif hasattr(value, "shape"):
        text = f"{type(value).__name__}{tuple(value.shape)}"
    else:
        text = _ADDRESS.sub("", written(value))
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _called(estimator: Any) -> str:
    if derives(estimator, "sklearn", "Pipeline"):
        steps = ", ".join(described(step) for _, step in estimator.steps)
        return f"{type(estimator).__name__}({steps})"
    changed = ", ".join(f"{name}={described(value)}" for name, value in _changed(estimator))
    return f"{type(estimator).__name__}({changed})"


def _changed(estimator: Any) -> Iterator[tuple[str, Any]]:
    defaults: dict[str, Any] = {}
    for cls in reversed(type(estimator).__mro__):
        if "__init__" in vars(cls) and cls is not object:
            found = inspect.signature(vars(cls)["__init__"]).parameters
            defaults |= {name: one.default for name, one in found.items()}
    for name, value in parameters(estimator).items():
        default = defaults.get(name, inspect.Parameter.empty)
        if value is default or (type(value) is type(default) and _same(value, default)):
            continue
        yield name, value


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, float) and value != value and default != default:
        return True
    try:
        return bool(value == default)
    except ValueError:
        # Arrays compare element by element.
        return False


def purpose(estimator: Any) -> str:
    """Return ``"classifier"`` or ``"regressor"``.

    Raises
    ------
    ConfigError
        The estimator is neither: it groups, ranks, transforms or finds outliers.
    """
    kind = getattr(tags(estimator), "estimator_type", None) or getattr(
        estimator, "_estimator_type", None
    )
    if kind is None:
        answers = ("predict_proba", "decision_function")
        kind = "classifier" if any(hasattr(estimator, one) for one in answers) else "regressor"
        if hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
            kind = "transformer"
    if kind not in ("classifier", "regressor"):
        raise ConfigError(
            f"expected a classifier or a regressor, got {type(estimator).__name__} ({kind})",
            hint="a transformer goes in front of one, in a scikit-learn Pipeline",
        )
    return str(kind)


def leafy(estimator: Any) -> bool:
    """Return whether leaves of an estimator of scikit-learn, trained or not, can learn by themselves.

    They can where they hold means of labels, or Newton steps of a loss whose gradients are
    known, that nothing else holds in bounds.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingRegressor
    >>> leafy(HistGradientBoostingRegressor())
    True
    >>> leafy(HistGradientBoostingRegressor(loss="quantile", quantile=0.9))
    False
    """
    stated = parameters(estimator)
    if stated.get("monotonic_cst") is not None:
        return False
    if derives(estimator, "sklearn", *HISTOGRAMS, *BOOSTED):
        return stated.get("loss") in _LOSSES
    grown = derives(estimator, "sklearn", *_FORESTS, *_TREES)
    return grown and stated.get("criterion") in _MEANS


def weight_name(estimator: Any, method: str = "fit") -> str | None:
    """Return under what name a method takes what rows weigh; None where it does not take it.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> weight_name(LogisticRegression())
    'sample_weight'
    >>> weight_name(make_pipeline(LogisticRegression()))
    'logisticregression__sample_weight'
    """
    if derives(estimator, "sklearn", "Pipeline"):
        name, last = estimator.steps[-1]
        inside = weight_name(last, method)
        return None if inside is None else f"{name}__{inside}"
    taken = inspect.signature(getattr(estimator, method, lambda: None)).parameters
    return "sample_weight" if "sample_weight" in taken else None


def tags(estimator: Any) -> Any:
    """Return scikit-learn's tags of an estimator, or None where it has none."""
    ask = getattr(estimator, "__sklearn_tags__", None)
    try:
        return ask() if callable(ask) else None
    except Exception:
        # Wrappers ask the estimator inside, which may be no estimator at all.
        return None


def seeded(estimator: Any, seed: int) -> dict[str, int]:
    """Return the seeds that the user left open, its own and those of estimators inside."""
    return {
        name: seed
        for name, value in parameters(estimator, deep=True).items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    }


def weights_by_code(given: Mapping[str, Any], classes: tuple[Any, ...]) -> dict[str, Any]:
    """Return the class weights among parameters that name labels, by the codes that are seen.

    Raises
    ------
    ConfigError
        A weight is for a label that does not occur.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        named = name.rpartition("__")[2] in ("class_weight", "class_weights")
        if not named or not isinstance(value, dict):
            continue
        unknown = [label for label in value if label not in classes]
        if unknown:
            raise ConfigError(
                f"expected class weights for the labels {list(classes)}, got {unknown[0]!r}"
            )
        found[name] = {classes.index(label): weight for label, weight in value.items()}
    return found


def threads(values: int) -> int:
    """Return how many threads work on so many numbers pays for, up to the cores there are.

    ``OMP_NUM_THREADS`` is the limit where it is set.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    cores = int(stated) if stated.isdigit() and int(stated) else _cores()
    return max(1, min(cores, values // VALUES_PER_THREAD))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
