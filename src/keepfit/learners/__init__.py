"""How to train: estimators as they are, recognised and given one form.

    learners.Sklearn(estimator)                     scikit-learn, and whatever has its contract
    learners.LightGBM(estimator, decay_rate=0.9)    LGBMClassifier, LGBMRegressor
    learners.XGBoost(estimator, decay_rate=0.9)     XGBClassifier, XGBRegressor
    learners.CatBoost(estimator)                    CatBoostClassifier, CatBoostRegressor
    learners.River(estimator, at_once=1)            River's classifiers, regressors, pipelines
    learners.Torch(build, loss=…)                   PyTorch modules, with a loss or your own loop
    learners.Calibration()                          the champion, with a map of its scores

An estimator handed to a pipeline becomes one of these by itself; naming them is for their
own settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError, nearest
from keepfit.learners.calibration import Calibration, bare
from keepfit.learners.catboost import CatBoost
from keepfit.learners.estimators import derives, is_estimator, packages
from keepfit.learners.lightgbm import LightGBM
from keepfit.learners.models import DUE, FittedModel, loads
from keepfit.learners.river import River
from keepfit.learners.sklearn import Sklearn
from keepfit.learners.transfers import recalibrated, transferred
from keepfit.learners.xgboost import XGBoost
from keepfit.protocols import Learner

if TYPE_CHECKING:
    from keepfit.learners.torch import Torch

__all__ = [
    "DUE",
    "Calibration",
    "CatBoost",
    "FittedModel",
    "LightGBM",
    "River",
    "Sklearn",
    "Torch",
    "XGBoost",
    "bare",
    "full",
    "incremental",
    "loads",
    "opens",
    "recalibrated",
    "resolve",
    "transferred",
    "validate",
    "weighs",
]

_BOOSTING = (CatBoost, LightGBM, XGBoost)

STARTS = ("scratch", "champion", "pretrained", "transfer")
UPDATES = ("all", "leaves", "head", "calibration")


def __getattr__(name: str) -> Any:
    if name != "Torch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keepfit.learners.torch import Torch

    return Torch


def resolve(estimator: Any) -> Learner:
    """Return the learner for an estimator; a learner is returned as it is.

    Parameters
    ----------
    estimator
        An estimator of scikit-learn, LightGBM, XGBoost, CatBoost or River, any object with
        ``fit(X, y)`` and ``predict(X)``, or a learner of your own
        (`keepfit.protocols.Learner`).

    Raises
    ------
    ConfigError
        The object is neither, or an estimator that does not classify or regress.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> resolve(Ridge(alpha=2.0))
    learners.Sklearn(Ridge(alpha=2.0))
    """
    if isinstance(estimator, type):
        raise ConfigError(
            f"expected an estimator, got the class {estimator.__name__}",
            hint=f"call it: {estimator.__name__}()",
        )
    if derives(estimator, "river", "Estimator"):
        return River(estimator)
    if is_estimator(estimator):
        for kind in _BOOSTING:
            if derives(estimator, kind.family, *kind.trains):
                return kind(estimator)
        if not _family(estimator):
            return Sklearn(estimator)
    if isinstance(estimator, Learner):
        return estimator
    raise ConfigError(
        f"expected an estimator or a learner, got {estimator!r}", hint=_hint(estimator)
    )


def _hint(value: Any) -> str:
    family = _family(value)
    if family is not None:
        return f"hand over an untrained {' or '.join(family.trains)}"
    if callable(getattr(value, "fit", None)) and not hasattr(value, "fingerprint"):
        return "a learner has `name`, `fingerprint`, `parameters` and `fit(rows, …)`; an estimator `predict`"
    return "hand over the estimator itself, such as HistGradientBoostingClassifier()"


def _family(value: Any) -> type[CatBoost] | type[LightGBM] | type[XGBoost] | None:
    """Return the learner for the library of boosted trees that a value comes from."""
    kin = packages(value)
    return next((kind for kind in _BOOSTING if kind.family in kin), None)


def validate(learner: Learner, start: str, update: str) -> None:
    """Raise unless a learner can train from a start, changing what the update names.

    Raises
    ------
    ConfigError
        It cannot, or there is no such start or update.
    """
    for value, known, what in ((start, STARTS, "start"), (update, UPDATES, "update")):
        if value not in known:
            near = nearest(str(value), known)
            raise ConfigError(
                f"expected {what}= to be one of {', '.join(map(repr, known))}, got {value!r}",
                hint=f"the nearest is {near!r}" if near else None,
            )
    ways: tuple[tuple[str, str], ...] | None = getattr(learner, "ways", None)
    if ways is None or (start, update) in ways:
        return
    able = " or ".join(_way(*way) for way in ways)
    raise ConfigError(
        f"expected a way that {learner.name} can train, {able}, got {_way(start, update)}",
        hint=_way_out(start, update),
    )


def weighs(learner: Learner) -> bool:
    """Return whether a learner heeds what rows weigh, in their column ``_weight``.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> weighs(resolve(LogisticRegression())), weighs(resolve(KNeighborsClassifier()))
    (True, False)
    """
    return bool(getattr(learner, "weighs", False))


def incremental(learner: Learner) -> bool:
    """Return whether a learner follows new rows by learning them alone, each once.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression, SGDClassifier
    >>> incremental(resolve(SGDClassifier())), incremental(resolve(LogisticRegression()))
    (True, False)
    """
    return bool(getattr(learner, "incremental", False))


def opens(learner: Learner, update: str) -> bool:
    """Return whether a warm start gives the champion a place for classes that it does not know.

    Examples
    --------
    >>> from sklearn.linear_model import SGDClassifier
    >>> opens(resolve(SGDClassifier()), "all")
    False
    """
    return update in getattr(learner, "opens", ())


def full(learner: Learner, model: Any) -> bool:
    """Return whether a model has grown so large by warm starts that one from scratch is due.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> full(resolve(Ridge()), None)
    False
    """
    asked = getattr(learner, "full", None)
    return bool(asked is not None and asked(model))


def _way(start: str, update: str) -> str:
    if start == "transfer":
        start = "PIPELINE@VERSION"
    return f"start={start!r}" if update == "all" else f"start={start!r} with update={update!r}"


def _way_out(start: str, update: str) -> str:
    if start == "pretrained":
        return "these learners have no pretrained form"
    if start == "transfer" and update == "all":
        return (
            "another pipeline's model is a start for LightGBM, learners.Torch and estimators of "
            'scikit-learn that go on learning; here start="scratch"'
        )
    if update == "leaves" and start == "scratch":
        return 'leaves are updated in the champion\'s trees: start="champion", update="leaves"'
    if update == "leaves":
        return (
            "leaves are updated by LightGBM, XGBoost and scikit-learn's trees, with an objective whose "
            "leaves are means"
        )
    if update == "calibration":
        return 'leave learner= out: Challenger(update="calibration") has its own'
    if update == "head":
        return "a head is a layer of a neural network"
    return 'start="scratch" is always possible'
