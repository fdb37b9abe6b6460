"""What the learners of boosted trees have in common: LightGBM, XGBoost and CatBoost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from keepfit.batch import LABEL
from keepfit.errors import ConfigError, TrainingError
from keepfit.learners import estimators, labels
from keepfit.learners.encoding import Encoding
from keepfit.learners.models import FittedModel, Head, Size

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.protocols import Model


class Boosting(ABC):
    """Base of the learners that train one library's estimators of boosted trees.

    It holds the estimator, tells its name and parameters, and prepares rows and labels; a
    subclass says how its library trains them.
    """

    family: ClassVar[str]
    """The package, which is also how models and fingerprints name it."""

    trains: ClassVar[tuple[str, str]]
    """The names of its classifier and of its regressor."""

    def __init__(self, estimator: Any) -> None:
        if not estimators.derives(estimator, self.family, *self.trains):
            wanted = " or ".join(self.trains)
            raise ConfigError(f"expected {wanted}, got {type(estimator).__name__}")
        self.estimator = estimators.clone(estimator)
        self._classify = estimators.derives(estimator, self.family, self.trains[0])

    @property
    def classifies(self) -> bool:
        """Whether what it learns are classes."""
        return self._classify

    def __repr__(self) -> str:
        own = "".join(f", {name}={value!r}" for name, value in self._own(changed=True).items())
        return f"learners.{type(self).__name__}({self.name}{own})"

    @cached_property
    def name(self) -> str:
        """What trains, with the parameters that differ from their defaults."""
        return estimators.described(self.estimator)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, as JSON can hold them."""
        found = {**self._given, **self._own()}
        return {key: estimators.as_json(value) for key, value in sorted(found.items())}

    @cached_property
    def _given(self) -> dict[str, Any]:
        """The estimator's parameters, asked for once: it looks through its signatures each time."""
        found: dict[str, Any] = self.estimator.get_params()
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A digest of class and parameters, the same in every process."""
        from keepfit import pickles

        return pickles.fingerprint((self.family, self.estimator, *self._own().values()))

    @property
    @abstractmethod
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that the estimator knows."""

    @property
    def weighs(self) -> bool:
        """Whether rows may weigh differently; an objective of the user's own is not told so."""
        stated = map(self._given.get, ("objective", "loss_function"))
        return all(isinstance(one, str | None) for one in stated)

    def _own(self, *, changed: bool = False) -> dict[str, Any]:
        """Return the settings of the learner itself; with ``changed`` those not at their default."""
        return {}

    def full(self, model: Model) -> bool:
        """Whether a champion is so large that a training from scratch is due instead of more trees."""
        ours = isinstance(model, FittedModel) and model.head.family == self.family
        return ours and self._size(model).full

    @abstractmethod
    def _size(self, before: Any) -> Size:
        """Return how many trees the champion has, and how many more it would get."""

    def _stated(self, names: tuple[str, ...]) -> Any:
        """Return the value of a parameter under any of its names, None where it is left open."""
        found = self._given
        return next((found[name] for name in reversed(names) if found.get(name) is not None), None)

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Model | None, seed: int
    ) -> Any:
        """Return a model trained on rows that carry their label in ``_label``, in the order given.

        Raises
        ------
        LabelsMissing
            No row has a label.
        ConfigError
            Labels or class weights do not fit the estimator.
        TrainingError
            There is one class only, no column of use, or nothing to go on from.
        """
        rows = labels.labelled(rows, classify=self._classify)
        if rows.height < 2:
            raise TrainingError("expected two labelled rows or more to train on, got one")
        if start in ("champion", "transfer"):
            before = self._champion(previous)
            if start == "transfer":
                before = before.adapted(rows, grow=update == "all")
            return self._continue(rows, update, before, seed)
        classes = labels.classes_of(rows.get_column(LABEL)) if self._classify else ()
        task = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")
        head = Head(self.family, self.name, task, classes, Encoding.learn(rows))
        known = rows.get_column(LABEL)
        found = labels.codes(known, classes) if classes else labels.values(known)
        return self._begin(head, head.encoding.matrix(rows), found, labels.weights(rows), seed)

    def _continue(
        self, rows: pl.DataFrame, update: str, before: FittedModel, seed: int
    ) -> FittedModel:
        known = before.codes(rows.get_column(LABEL))
        if self._classify:
            labels.refuse_new(rows.get_column(LABEL), known)
            if known.min() == known.max():
                # One class alone says nothing of where it ends: LightGBM would move every leaf
                # towards zero, XGBoost towards certainty, and CatBoost refuses.
                labels.classes_of(rows.get_column(LABEL))
        matrix, weight = before.head.encoding.matrix(rows), labels.weights(rows)
        if update == "leaves":
            return self._refresh(before, matrix, known, weight, seed)
        return self._extend(before, matrix, known, weight, seed)

    def _champion(self, previous: Model | None) -> Any:
        """Return the champion, where it is a model that the estimator can go on with."""
        if previous is None:
            raise TrainingError(
                f"expected a champion for {self.name} to start from, got none",
                hint="the first training starts from scratch",
            )
        ours = isinstance(previous, FittedModel) and previous.head.family == self.family
        if not ours or self._classify != bool(previous.classes):
            raise TrainingError(
                f"expected a champion that {self.name} can go on with, got {previous!r}",
                hint="start from scratch",
            )
        return previous

    @abstractmethod
    def _begin(
        self,
        head: Head,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> FittedModel:
        """Train from scratch."""

    @abstractmethod
    def _extend(
        self,
        before: Any,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> FittedModel:
        """Add trees to the champion's."""

    def _refresh(
        self,
        before: Any,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> FittedModel:
        """Keep the champion's trees and let their leaves learn."""
        raise ConfigError(
            f"expected a learner that updates leaves, got {self!r}",
            hint='update="all" adds trees to the champion\'s',
        )


def refuse_early_stopping() -> NoReturn:
    """Raise, because training has no rows to stop on.

    Raises
    ------
    ConfigError
        Always.
    """
    raise ConfigError(
        "expected a fixed number of trees, got early stopping, which needs rows to stop on",
        hint="set n_estimators; the gate judges on rows that training has not seen",
    )


def refuse_other_objective(champions: str, own: str, name: str) -> None:
    """Raise where new trees would not add up with the champion's: they learn something else.

    Raises
    ------
    TrainingError
        The objectives are not the same.
    """
    if champions != own:
        raise TrainingError(
            f"expected a champion that {name} can go on with, which learns {own}, "
            f"got one that learnt {champions}",
            hint="start from scratch",
        )


def checked_rate(decay_rate: float) -> float:
    """Return what part of a leaf's old value an update keeps, once it is a part.

    Raises
    ------
    ConfigError
        It is none.
    """
    if not 0.0 <= decay_rate <= 1.0:
        raise ConfigError(f"expected a decay rate from 0 to 1, got {decay_rate!r}")
    return decay_rate
