"""Models at work: loading them once, predicting batches, scoring what has matured."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from keepfit import answers, estimates, facts, learners, metrics, unknown
from keepfit.answers import Said
from keepfit.artifacts import Artifacts
from keepfit.batch import ARRIVED_AT, ID, LABEL, SCORE, VERSION, complete
from keepfit.drift import Reference
from keepfit.errors import RollbackFailed, SchemaMismatch
from keepfit.learners.labels import weights as weights_in
from keepfit.protocols import Metric, Model
from keepfit.registry import Rollout, State, Version
from keepfit.rollouts import Assignment, Faults

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.estimates import Estimate

    Kept = MutableMapping[tuple[str, int, int], np.ndarray]

T = TypeVar("T")

KEPT_MODELS, KEPT_OF_ALL = 8, 32
"""Models that stay open: of one pipeline, and of all policies of a backtest."""

HELD, HELD_OF_ALL = 4, 128_000_000
"""Newest models whose bytes stay at hand of one pipeline, and bytes of all policies of a backtest."""

LARGE = 8_000_000
"""Bytes of a model up to which they stay at hand."""

COUNTED = 10_000
"""Rows after which the faults of a champion are counted anew."""

ESTIMABLE = frozenset(
    {
        *("roc_auc", "accuracy", "balanced_accuracy", "average_precision", "f1", "log_loss"),
        *("brier", "mae", "rmse", "mape"),
    }
)
"""Metrics that can be estimated while labels are missing."""

TOLERANCE = 1e-9
"""How far a stored prediction and the same one made again may lie apart."""


class Scorer:
    """Loads models by digest, predicts with them and measures how good they are.

    One scorer may serve several policies of a backtest: what a model said of a batch is
    kept by the model's digest, so equal models predict once, and so is whatever `once` is asked.
    ``shared`` may be where predictions are kept, for several processes. ``faults`` says by rollout
    how often its challenger failed to answer, and by promotion how often the champion did what the
    version before it could; ``failures`` by version why it failed the last row that it did.
    """

    def __init__(self, artifacts: Artifacts, metric: Any, *, shared: bool | Kept = False) -> None:
        self.artifacts = artifacts
        self.spec = metric
        self.last_metric: Metric | None = None
        self.faults: dict[str, Faults] = {}
        self.failures: dict[str, str] = {}
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._contents: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._references: dict[str, Reference] = {}
        self._metrics: dict[tuple[str, tuple[Any, ...]], Metric] = {}
        none: Kept | None = {} if shared is True else None
        self._said = none if isinstance(shared, bool) else shared
        self._once: dict[Hashable, Any] = {}
        self.lately = answers.Lately()

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what some work gives; policies that share the scorer, and come to it too, share it.

        The key says all that it hangs on but the pipeline, which is the same but for its trigger.
        """
        if self._said is None:
            return make()
        if key not in self._once:
            self._once[key] = make()
        found: T = self._once[key]
        return found

    def model(self, version: Version) -> Model:
        """Return a version's model, loaded once; its digest is checked."""
        return self.load(version.artifact)

    def champion(self, state: State) -> Model | None:
        """Return the model that serves; None where none does."""
        return None if state.champion is None else self.model(state.versions[state.champion])

    def load(self, digest: str) -> Model:
        """Return the model an artifact holds."""
        if digest not in self._models:
            self._models[digest] = learners.loads(self.content(digest))
            if len(self._models) > (KEPT_MODELS if self._said is None else KEPT_OF_ALL):
                self._models.popitem(last=False)
        self._models.move_to_end(digest)
        return self._models[digest]

    def content(self, digest: str) -> bytes:
        """Return a model as bytes; those of the newest are at hand, and are not read again."""
        held = self._contents.get(digest)
        return self.artifacts.get(digest) if held is None else held

    def keep(self, content: bytes) -> str:
        """Keep a new model as an artifact, and return its digest.

        It is opened next, and the next training starts from it: its bytes stay at hand until
        as many others have come, unless they are large.
        """
        digest = self.artifacts.put(content)
        if len(content) <= LARGE and digest not in self._contents:
            self._contents[digest] = content
            self._held += len(content)
            while self._crowded():
                self._held -= len(self._contents.popitem(last=False)[1])
        return digest

    def _crowded(self) -> bool:
        if self._said is None:
            return len(self._contents) > HELD
        return self._held > HELD_OF_ALL

    def reference(self, digest: str) -> Reference:
        """Return a stored description of training rows, to measure batches against."""
        if digest not in self._references:
            # The champion's and the anchor's; of those before, none is asked for again.
            kept = dict(list(self._references.items())[-3:])
            self._references = kept | {digest: Reference.loads(self.artifacts.get(digest))}
        return self._references[digest]

    def settle(self, name: str) -> None:
        """Judge by the metric that the pipeline began with, where it states none.

        The usual one of two classes is another than that of three: once a third comes, what was
        reached before and what is reached since must compare.
        """
        if self.spec is None and name in map(metrics.default_for, metrics.TASKS):
            self.spec = name

    def metric(self, model: Model) -> Metric:
        """Return the pipeline's metric for a model's task and classes."""
        key = model.task, model.classes
        if key not in self._metrics:
            if self.spec is None:
                self.settle(metrics.default_for(model.task))
            self._metrics[key] = metrics.get(self.spec, task=model.task, classes=model.classes)
            self.last_metric = self._metrics[key]
        return self._metrics[key]

    def greater_is_better(self, state: State) -> bool:
        """Return the direction of the metric, as far as it is known yet."""
        if state.champion is None:
            return True
        return self.metric(self.model(state.versions[state.champion])).greater_is_better

    def predict(self, state: State, number: int, rows: pl.DataFrame) -> pl.DataFrame:
        """Return what the versions that served when each row arrived say of a batch.

        The score of a row that a version cannot answer, for it raises or says no number, is null;
        `failures` keeps why. It counts as answered wrong (`unknown.as_wrong`).

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        import polars as pl

        parts, scores = [], []
        for version, first, count in self._reigns(state, rows):
            part = rows.slice(first, count)
            found, names = self._served(state, version, number, first, part)
            parts.append(part.get_column(ID).to_frame().hstack([names]))
            scores.append(answers.stored(found))
        if not parts:
            return pl.DataFrame(schema={ID: rows.schema[ID], VERSION: pl.String, SCORE: pl.Float64})
        said = pl.concat(parts).hstack([pl.concat(answers.alike(*scores))])
        return said if state.rollout is None else self._with_challenger(state, number, rows, said)

    def _served(
        self, state: State, version: Version, number: int, first: int, rows: pl.DataFrame
    ) -> tuple[np.ndarray, pl.Series]:
        """Return what is said of rows that a version served, and by which.

        What a champion fails after its promotion, the version before it answers, and that is
        counted. What neither can answer has no score.
        """
        import numpy as np
        import polars as pl

        names = pl.Series(VERSION, [version.name]).new_from_index(0, rows.height)
        service, promotion = state.service, state.promotion
        watched = service is not None and service.version == version.name
        said = self._tried(version, number, first, rows)
        if isinstance(said.error, SchemaMismatch):
            raise said.error
        if said.right.all():
            if watched:
                self._count(promotion, Faults(0, rows.height))
            return said.scores, names
        self.failures[version.name] = said.why
        if service is None or not watched:
            self.model(version)  # where it cannot be opened, that is no matter of rows
            return said.scores, names
        before = state.versions[service.previous]
        others = self._tried(before, number, first, rows)
        scores = said.scores if said.right.any() else np.full_like(others.scores, np.nan)
        rescued = others.right & ~said.right & (scores.shape == others.scores.shape)
        if not (rescued | said.right).all():
            self.model(version)
        self._count(
            promotion, Faults(int(rescued.sum()), rows.height, said.why if rescued.any() else "")
        )
        mixed = np.where(rescued if scores.ndim == 1 else rescued[:, None], others.scores, scores)
        named = np.where(rescued, before.name, version.name).tolist()
        return mixed, pl.Series(VERSION, named, dtype=pl.String)

    def _count(self, what: str, found: Faults) -> None:
        """Count faults of a champion, of the newest rows."""
        known = self.faults.get(what, Faults())
        self.faults[what] = (known if known.answers < COUNTED else Faults()) + found

    def _tried(self, version: Version, number: int, first: int, rows: pl.DataFrame) -> Said:
        """Return what a version says of rows, as far as it can."""
        try:
            model = self.model(version)
        except Exception as error:
            return answers.none(rows.height, error)
        return answers.asked(
            lambda at, part: self._answers(version, number, first + at, part),
            rows,
            answers.several(model),
        )

    def _with_challenger(
        self, state: State, number: int, rows: pl.DataFrame, said: pl.DataFrame
    ) -> pl.DataFrame:
        """Return answers of which the challenger gives its share, as far as it can.

        It is asked all rows, in a shadow too, so that its faults are known.
        """
        import polars as pl

        rollout = state.rollout
        assert rollout is not None
        version = state.versions[rollout.fact.version]
        unanswered = said.filter(said.get_column(SCORE).is_null()).get_column(ID)
        both = rows.get_column(ID).is_in(unanswered.implode()).to_numpy()
        scores, right = self.challenged(rollout, version, number, rows, both)
        chosen = right & _drawn(rollout, rows)
        if not chosen.any():
            return said
        new, own = answers.alike(answers.stored(scores[chosen]), said.get_column(SCORE))
        theirs = rows.filter(chosen).select(
            ID, pl.lit(version.name).alias("theirs"), new.alias("score")
        )
        joined = said.with_columns(own).join(theirs, on=ID, how="left", maintain_order="left")
        return joined.select(
            ID,
            pl.coalesce("theirs", VERSION).alias(VERSION),
            pl.coalesce("score", SCORE).alias(SCORE),
        )

    def challenged(
        self,
        rollout: Rollout,
        version: Version,
        number: int,
        rows: pl.DataFrame,
        unanswered: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a challenger says of rows, and which of that are answers; faults are counted.

        What the champion left ``unanswered`` too is no fault of the challenger.
        """
        said = self._tried(version, -2 * number, 0, rows)
        faults = ~said.right if unanswered is None else ~said.right & ~unanswered
        wrong = int(faults.sum())
        name, found = rollout.fact.rollout, Faults(wrong, rows.height, said.why if wrong else "")
        self.faults[name] = self.faults.get(name, Faults()) + found
        return said.scores, said.right

    def _reigns(self, state: State, rows: pl.DataFrame) -> list[tuple[Version, int, int]]:
        """Return (version, first row, rows) for each stretch of rows that one version served."""
        arrived = rows.get_column(ARRIVED_AT)
        if rows.is_empty() or state.champion is None:
            return []
        last_change, champion = state.reigns[-1]
        if (arrived >= last_change).all():
            return [(state.versions[champion], 0, rows.height)]
        serving = [state.serving_at(at) for at in arrived.to_list()]
        stretches: list[tuple[Version, int, int]] = []
        first = 0
        for i in range(1, len(serving) + 1):
            if i == len(serving) or serving[i] != serving[first]:
                name = serving[first]
                if name is not None:
                    stretches.append((state.versions[name], first, i - first))
                first = i
        return stretches

    def _answers(self, version: Version, number: int, first: int, rows: pl.DataFrame) -> np.ndarray:
        if self._said is None:
            return self.model(version).predict(rows)
        key = version.artifact, number * 10**9 + first, rows.height
        if key not in self._said:
            self._said[key] = self.model(version).predict(rows)
        return self._said[key]

    def score(self, state: State, arrived: facts.Arrived, rows: pl.DataFrame) -> facts.Scored:
        """Return how the versions that served a batch did on it, as far as its labels are known.

        Rows that they could not answer count as answered wrong, as `unknown.as_wrong` says.
        """
        from keepfit.metrics.evidence import finite_rows

        known = complete(rows, LABEL, VERSION)
        shared: dict[str, Any] = {"batch": arrived.batch, "from_": arrived.from_, "to": arrived.to}
        name = state.champion or ""
        if known.is_empty():
            reason = (
                "none of its rows has a label"
                if rows.get_column(LABEL).null_count() == rows.height
                else "none of its rows was served"
            )
            return facts.Scored(
                **shared, version=name, metric=self.name(state), value=None, n=0, reason=reason
            )
        served = known.get_column(VERSION)
        # Mostly one version served all of a batch.
        alone = served.n_unique() == 1
        name = served[0] if alone else served.value_counts(sort=True)[VERSION][0]
        model = self.model(state.versions[name])
        scores = _scores_of(model, known) if alone else self._mixed(state, model, known)
        shared["failed"] = len(scores) - int(finite_rows(scores).sum())
        metric, (labels, scores, weights), strange = unknown.scored(
            self, state, model, known, scores
        )
        shared |= strange
        value = metrics.value_of(metric, labels, scores, weights)
        if not math.isfinite(value):
            reason = "the metric is no number on these rows: one class only, or values that are not finite or too great"
            return facts.Scored(
                **shared, version=name, metric=metric.name, value=None, n=labels.size, reason=reason
            )
        low, high = metrics.interval_of(metric, labels, scores, weights)
        return facts.Scored(
            **shared,
            version=name,
            metric=metric.name,
            value=value,
            n=labels.size,
            low=_finite(low),
            high=_finite(high),
        )

    def _mixed(self, state: State, model: Model, served: pl.DataFrame) -> np.ndarray:
        """Return what several versions said of rows, in the classes of one of them."""
        names = served.get_column(VERSION)
        scores = _scores_of(model, served).copy()
        for name in names.unique(maintain_order=True):
            own, here = self.model(state.versions[name]), (names == name).to_numpy()
            if own.classes != model.classes:
                scores[here] = unknown.translated(model, own, _scores_of(own, served.filter(here)))
        return scores

    def reached(
        self,
        version: Version,
        batch: int,
        rows: pl.DataFrame,
        known: pl.Series,
        classes: Collection[str],
    ) -> float | None:
        """Return the metric of a version on labelled rows; None where it is not defined on them."""
        # Of labelled rows alone: places of their own.
        scores = self._tried(version, 1 - 2 * batch, 0, rows).scores
        metric, found = unknown.answered(
            self, self.model(version), known, scores, weights_in(rows), classes
        )
        return _finite(metrics.value_of(metric, *found))

    def errors(
        self, version: Version, rows: pl.DataFrame, classes: Collection[str] = ()
    ) -> list[float]:
        """Return how wrong a version was row by row: 0 or 1 for classes, the distance for numbers.

        A row of one of ``classes`` that it does not know is 1, and so is one that it could not
        answer; of other labels that it does not know there is none.
        """
        model = self.model(version)
        served = complete(rows.filter(rows.get_column(VERSION) == version.name), LABEL)
        labels, scores, _ = unknown.placed(
            model, served.get_column(LABEL), _scores_of(model, served), None, classes
        )
        if model.task == "regression":
            wrong: list[float] = abs(labels - scores).tolist()
            return wrong
        said = scores >= 0.5 if scores.ndim == 1 else scores.argmax(axis=1)
        wrong = (said != labels).astype(float).tolist()
        return wrong

    def estimable(self, version: Version) -> bool:
        """Return whether the metric of a version can be estimated without labels."""
        return self.metric(self.model(version)).name in ESTIMABLE

    def stored(self, version: Version, values: pl.Series) -> np.ndarray:
        """Return scores as a version gave them, from the form they are kept in."""
        return _scores_of(self.model(version), values.alias(SCORE).to_frame())

    def estimate(
        self, version: Version, learnt: Any, scores: np.ndarray, rows: Callable[[], pl.DataFrame]
    ) -> Estimate:
        """Return what to expect of a version on rows, from what labelled rows taught."""
        name = self.metric(self.model(version)).name
        if isinstance(learnt, estimates.Calibrated):
            return learnt.estimate(scores, name)
        features = rows().select(list(self.model(version).features))
        found: Estimate = learnt.estimate(scores, features, name)
        return found

    def name(self, state: State) -> str:
        """Return the name of the metric, as far as it is known yet."""
        if state.champion is None:
            return str(self.spec or "")
        return self.metric(self.model(state.versions[state.champion])).name

    def verify(self, version: Version, rows: pl.DataFrame, stored: pl.DataFrame) -> int:
        """Return how many stored predictions of a version it gives again; 0 when it has none here.

        Raises
        ------
        RollbackFailed
            It answers otherwise than it did.
        """
        import numpy as np

        kept = (
            stored.filter(stored.get_column(VERSION) == version.name).select(ID, SCORE).drop_nulls()
        )
        if kept.is_empty():
            return 0
        again = rows.join(kept, on=ID, how="inner", maintain_order="left")
        said = answers.of(self.model(version), again.drop(SCORE))
        now, why = said.scores, f": {said.why}" if said.error else ""
        then = _scores_of(self.model(version), again)
        if now.shape != then.shape or not np.allclose(now, then, rtol=0, atol=TOLERANCE):
            raise RollbackFailed(
                f"{version.name} does not answer {kept.height} stored rows as it did when it served{why}",
                hint="`keepfit doctor` compares the installed packages with those it was trained with",
            )
        return kept.height


def _drawn(rollout: Rollout, rows: pl.DataFrame) -> np.ndarray:
    """Return for each row whether it falls to the challenger: its unit does, in time."""
    fact = rollout.fact
    late: np.ndarray = (rows.get_column(ARRIVED_AT) >= rollout.since).to_numpy()
    if not fact.share or not late.any():
        return late & False
    ids = units = rows.get_column(ID).to_list()
    if fact.unit is not None and fact.unit in rows.columns:
        # A row without a value is a unit of its own.
        named = rows.get_column(fact.unit).to_list()
        units = [id_ if unit is None else unit for unit, id_ in zip(named, ids, strict=True)]
    return late & Assignment(fact.rollout, fact.share).of(units)


def _scores_of(model: Model, served: pl.DataFrame) -> np.ndarray:
    return answers.restored(served.get_column(SCORE), answers.several(model))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
