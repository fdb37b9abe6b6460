"""Recalibration: the champion kept, and a monotone map of its scores learnt from newer rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.batch import LABEL
from keepfit.errors import ArtifactCorrupt, ConfigError, LabelsMissing, TrainingError, nearest
from keepfit.learners import labels, maps
from keepfit.learners.encoding import Encoding
from keepfit.learners.maps import Map
from keepfit.learners.models import FittedModel, Head, loads

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.protocols import Model

METHODS = ("prior", "platt", "isotonic")

FEW = 50
"""Rows of the rarest class up to which only the shares of classes are learnt."""

MANY = 1_000
"""Rows of the rarest class from which an isotonic map is learnt.

Below it is beaten by a line: Niculescu-Mizil and Caruana, Predicting good probabilities with
supervised learning (2005).
"""


class Calibration:
    """Keeps the champion and learns a monotone map of its scores: the cheapest training of all.

    It mends what scores say and not how they rank rows: after classes have become rarer, or
    where a model is too sure of itself. Map and rows: the shares of classes alone (prior
    shift) while the rarest class has few rows, a logistic line over the odds (Platt) beyond
    50 of them, an isotonic map from 1,000 on. Several classes are mapped each against the
    rest and brought back to a sum of one. Values of a regression get a line, or from 1,000 rows
    on an isotonic map. A champion that is recalibrated itself gets another map in place of
    its own.

    The rows should be newer than the champion's own: of those it has learnt it is too sure.

    Parameters
    ----------
    method
        ``"prior"``, ``"platt"`` or ``"isotonic"``; by the rows at hand when not given.
    prior
        The share of each class among the rows that the champion has learnt from, in the order
        of `classes`, or that of the second of two. With it rows that have no labels yet are
        enough for a prior shift.

    Raises
    ------
    ConfigError
        There is no such method, or the prior is no share.

    Examples
    --------
    >>> Calibration(method="platt")
    learners.Calibration(method='platt')

    References
    ----------
    Platt, Probabilistic outputs for support vector machines (1999).
    Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
    estimates (2002).
    Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities (2002).
    """

    def __init__(
        self, method: str | None = None, *, prior: float | tuple[float, ...] | None = None
    ) -> None:
        if method is not None and method not in METHODS:
            near = nearest(str(method), METHODS)
            raise ConfigError(
                f"expected method= to be one of {', '.join(map(repr, METHODS))}, got {method!r}",
                hint=f"the nearest is {near!r}" if near else None,
            )
        self.method = method
        self.prior = _checked(prior)

    def __repr__(self) -> str:
        return f"learners.{self.name}"

    @property
    def name(self) -> str:
        """What trains, with the settings that differ from their defaults."""
        shown = [f"{key}={value!r}" for key, value in self.parameters.items() if value is not None]
        return f"Calibration({', '.join(shown)})"

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings, as JSON can hold them."""
        prior = None if self.prior is None else list(self.prior)
        return {"method": self.method, "prior": prior}

    @property
    def fingerprint(self) -> str:
        """A digest of the settings, the same in every process."""
        return hashlib.sha256(f"calibration {self.method} {self.prior}".encode()).hexdigest()

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that it knows."""
        return (("champion", "calibration"),)

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Model | None, seed: int
    ) -> CalibratedModel:
        """Return the champion with a map of its scores, learnt from rows with ``_label``.

        Raises
        ------
        LabelsMissing
            No row has a label, and no prior is known.
        TrainingError
            There is no champion, or no label is one it knows.
        """
        if previous is None:
            raise TrainingError(
                "expected a champion to recalibrate, got none",
                hint="name a Challenger() beside it, which trains the first model",
            )
        base = bare(previous)
        if self.prior is not None and rows.get_column(LABEL).null_count() == rows.height:
            return CalibratedModel.of(base, self._without_labels(base, rows))
        rows = labels.labelled(rows, classify=base.task != "regression")
        scores, known = base.predict(rows), base.codes(rows.get_column(LABEL))
        if base.task == "regression":
            return CalibratedModel.of(base, _of_values(scores, known, self.method))
        met = known >= 0
        if not met.any():
            raise TrainingError(
                f"expected labels that the champion knows, {list(base.classes)[:5]}, got none",
                hint="start from scratch: new classes need a model that has a place for them",
            )
        found = _of_classes(scores[met], known[met], len(base.classes), self.method)
        return CalibratedModel.of(base, found)

    def _without_labels(self, base: Model, rows: pl.DataFrame) -> Map:
        import numpy as np

        before = np.array(self.prior, dtype=np.float64)
        if before.size == 1:
            before = np.array([1.0 - before[0], before[0]])
        if before.size != len(base.classes):
            raise LabelsMissing(
                f"expected labels, or a prior of {len(base.classes)} classes, "
                f"got a prior of {before.size}"
            )
        return maps.prior_shift_without_labels(base.predict(rows), before / before.sum())


def _checked(prior: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    if prior is None:
        return None
    shares = (prior,) if isinstance(prior, float | int) else tuple(prior)
    whole = 1.0 if len(shares) == 1 else sum(shares)
    if all(0.0 < share < 1.0 for share in shares) and abs(whole - 1.0) < 1e-6:
        return tuple(float(share) for share in shares)
    raise ConfigError(
        f"expected prior= to be a share between 0 and 1, or one per class, got {prior!r}"
    )


def _of_classes(scores: np.ndarray, known: np.ndarray, classes: int, method: str | None) -> Map:
    """Return the map of probabilities that the method makes, or the rows allow."""
    import numpy as np

    rarest = int(np.bincount(known, minlength=classes).min())
    method = method or ("prior" if rarest < FEW else "platt" if rarest < MANY else "isotonic")
    columns = [(scores, known == 1)]
    if scores.ndim == 2:
        columns = [(scores[:, k], known == k) for k in range(classes)]
    if method == "isotonic":
        knots = [maps.isotonic(one, hits, probabilities=True) for one, hits in columns]
        return Map("isotonic", knots=tuple(knots))
    if method == "platt":
        fitted = [maps.platt(one, hits) for one, hits in columns]
        lines = [one for one in fitted if one is not None]
        if len(lines) == len(fitted):
            return _lines("platt", lines)
    # Where scores rank rows no better than chance, their shares are all there is to mend.
    return maps.prior_shift(scores, maps.shares_of(known, scores))


def _of_values(scores: np.ndarray, known: np.ndarray, method: str | None) -> Map:
    """Return the map of values that the method makes, or the rows allow."""
    if method == "isotonic" or (method is None and known.size >= MANY):
        knots = maps.isotonic(scores, known, probabilities=False)
        return Map("isotonic", knots=(knots,), probabilities=False)
    fitted = maps.line(scores, known) if known.size >= FEW and method != "prior" else None
    # A few rows say where values lie, and hardly how they spread.
    return _lines("linear", [fitted or (1.0, float((known - scores).mean()))])


def _lines(method: str, lines: list[tuple[float, float]]) -> Map:
    slopes, points = zip(*lines, strict=True)
    return Map(method, slopes=slopes, points=points)


# The model --------------------------------------------------------------------------------


class _Content(msgspec.Struct, frozen=True):
    base: bytes
    digest: str
    map: Map


class CalibratedModel(FittedModel):
    """A model with a map of its scores.

    ``base`` is the model inside, ``digest`` that of its artifact.
    """

    def __init__(self, head: Head, base: Model, digest: str, mapped: Map) -> None:
        super().__init__(head)
        self.base = base
        self.digest = digest
        self.map = mapped

    @classmethod
    def of(cls, base: Model, mapped: Map) -> CalibratedModel:
        """Return a model with a map of its scores."""
        inside = getattr(getattr(base, "head", None), "learner", type(base).__name__)
        head = Head("calibration", str(inside), base.task, base.classes, Encoding(()))
        return cls(head, base, hashlib.sha256(base.dumps()).hexdigest(), mapped)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns the model needs."""
        return self.base.features

    @property
    def dropped(self) -> dict[str, str]:
        """The columns that training left out, with the reason."""
        found: dict[str, str] = getattr(self.base, "dropped", {})
        return found

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Return scores, float64: (n,) probabilities of the second class, (n, classes), or (n,) values.

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        import numpy as np

        scores = self.base.predict(rows)
        return scores if rows.is_empty() else np.ascontiguousarray(self.map.apply(scores))

    def codes(self, known: pl.Series) -> np.ndarray:
        """Return labels as places in `classes` (-1 for one it does not know), or as values."""
        return self.base.codes(known)

    def answer(self, table: Any) -> np.ndarray:
        """Return scores of rows in the form of the model inside, mapped."""
        assert isinstance(self.base, FittedModel)
        return self.map.apply(self.base.answer(table))

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        return msgspec.msgpack.encode(_Content(self.base.dumps(), self.digest, self.map))

    def importances(self) -> dict[str, float]:
        """Return how much each column counts; empty where the model does not say."""
        ask = getattr(self.base, "importances", None)
        return {} if ask is None else dict(ask())


def bare(model: Model) -> Model:
    """Return the model inside a recalibrated one; another one as it is."""
    return model.base if isinstance(model, CalibratedModel) else model


def restore(head: Head, content: bytes) -> CalibratedModel:
    """Return the model that a head and bytes of `content` are.

    Raises
    ------
    ArtifactCorrupt
        They are none.
    """
    try:
        held = msgspec.msgpack.decode(content, type=_Content)
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(f"expected a model with a map of scores, got {error}") from error
    return CalibratedModel(head, loads(held.base), held.digest, held.map)
