"""The doors: what a source, check, detector, trigger, selection, learner, gate and executor must do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.batch import Batch, Roles
    from keepfit.facts import (
        AnyFact,
        Arrived,
        ColumnDrift,
        Cost,
        Decision,
        Finding,
        Probed,
        Verdict,
    )
    from keepfit.profile import Profile


@runtime_checkable
class Source(Protocol):
    """Where rows and labels come from."""

    @property
    def roles(self) -> Roles:
        """Which columns play which part."""

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return what is unread at a moment, at most one cadence of event time further.

        The windows of event time are aligned to the first row of the stream, so that the
        batches of a backlog do not depend on how it was delivered. Rows older than the
        watermark (late ones) come with the next batch. Nothing unread gives an empty
        batch with the same cursor.
        """

    def history(self) -> Batch:
        """Return all rows and labels at once, ``_arrived_at`` and ``_known_at`` as a backtest sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """What a check may look at beside the batch itself.

    ``reference`` describes the champion's training rows; before there is a champion, the
    first batch that was let in; None at the very first. ``arrived`` holds the latest
    batches that were let in, oldest first. ``champion`` is its model, None where there is none.
    ``repeated`` counts the rows that came with the batch and that a later one of it with the same
    id and other content replaced: the batch has only the last.
    """

    now: datetime
    roles: Roles
    number: int
    reference: Profile | None = None
    arrived: Sequence[Arrived] = ()
    every: timedelta = timedelta(days=1)
    schema_accepted: bool = False
    champion: Model | None = None
    repeated: int = 0


@runtime_checkable
class Check(Protocol):
    """A question about a batch."""

    @property
    def name(self) -> str:
        """The check's name, as findings show it."""

    def check(self, batch: Batch, context: CheckContext) -> Sequence[Finding]:
        """Return one finding or more; a check that has nothing to say answers pass or not applicable."""


class Reference(Protocol):
    """What a detector measures rows against; `keepfit.drift.Reference` is one."""

    @property
    def profile(self) -> Profile:
        """What the columns of the reference look like."""

    @property
    def parts(self) -> Mapping[str, bytes]:
        """What detectors keep of the reference beside its profile, by the detector's name."""

    @property
    def rows(self) -> int:
        """How many rows the reference describes."""

    def read(self, rows: Any, *, brief: bool = False) -> Sequence[Any]:
        """Return each column of rows beside the reference's, measured once for all detectors.

        With ``brief``, of numbers with no more than the Kolmogorov-Smirnov distance.
        """

    def opened(self, part: str, kind: type[Any]) -> Any:
        """Return what a detector keeps, opened once; None where it keeps nothing."""

    def ruler(self, column: str) -> Any:
        """Return what one column is measured with."""


@runtime_checkable
class Detector(Protocol):
    """A drift detector: measures how far rows have moved from a reference.

    A detector that needs more of the reference than its profile has a method
    ``fit(rows) -> bytes``, or ``calibrate(reference, rows, *, every, weights) -> bytes``;
    what it returns is kept in ``reference.parts`` under its name. One whose evidence adds up
    over batches has ``accumulate(reference, rows, state, anchor) -> Advanced``. One that follows a series
    value by value has ``on``, what it follows (``"loss"``, ``"score"`` or a column), and
    ``advance(state, values) -> (state, places)``.
    """

    @property
    def name(self) -> str:
        """The detector's name, as facts show it."""

    def check(self, reference: Reference, rows: pl.DataFrame) -> Sequence[ColumnDrift]:
        """Return one value with its limit per column, worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """What one more batch adds to a detector whose evidence adds up over batches.

    ``columns`` are all that it measured, worst first; ``alarm`` those that raise an alarm
    with this batch, none in most. ``state`` goes into a fact and comes back with the next
    batch. ``waiting`` says that the rows are a part of a batch as the reference knows them:
    they are shown again with the next. ``provisional`` says that its reference is short for
    the rate it promises.
    """

    columns: Sequence[ColumnDrift]
    state: Mapping[str, Any]
    alarm: Sequence[ColumnDrift] = ()
    evidence: float = 0.0
    threshold: float = 0.0
    waiting: bool = False
    provisional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a trigger may look at: the facts since the last training, and the clock.

    ``watermark`` is the event time up to which the stream has been read; durations count
    on it, so that a backlog is treated as it would have been when it happened. ``facts``
    are those since the last decision to train. ``trained_at`` is the watermark of that
    decision; ``trained_to`` the event time of the champion's newest training row;
    ``labelled`` counts the labelled rows newer than the last training's; ``learnt`` those that the
    champion, or the one it goes on from, was trained on from scratch.
    ``promised`` is the champion's value of the metric at its gate, and None when it passed
    without one; ``first`` what it reached in the first windows it served, by batch. ``asked``
    holds the newest decisions to train in its reign, ``asked_before`` those in the reign of the
    champion that it replaced. ``trainings`` holds (watermark at its start, CPU seconds) of each
    past training, ``probe_costs`` the same of probes and of trials on parts of rows. ``waiting``
    names the challengers of the newest decision that wait at the gate still. ``probed`` holds
    the newest probes from before the last training. ``every`` is how
    much event time one step reaches.
    """

    now: datetime
    watermark: datetime
    first_at: datetime
    trained_at: datetime | None = None
    champion: str | None = None
    trained_to: datetime | None = None
    labelled: int = 0
    learnt: int = 0
    labelled_to: datetime | None = None
    promised: float | None = None
    greater_is_better: bool = True
    facts: Sequence[AnyFact] = ()
    first: Mapping[int, float] = field(default_factory=dict)
    asked: Sequence[Decision] = ()
    asked_before: Sequence[Decision] = ()
    trainings: Sequence[tuple[datetime, float]] = ()
    probe_costs: Sequence[tuple[datetime, float]] = ()
    waiting: Sequence[str] = ()
    probed: Sequence[Probed] = ()
    every: timedelta | None = None


@runtime_checkable
class Trigger(Protocol):
    """A rule that says when to train: a pure function of the facts so far and the clock."""

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a selection is made, and what the loop knows then.

    ``since`` is the event time of the newest row trained on before. ``relevance`` gives each
    of some labelled rows a number: the greater, the more the next model can learn from it
    about the present; None when nothing serves yet. ``every`` is how much event time one
    step reaches. ``changed`` is the event time from which on what serves did far worse than
    before, the last time it did; None when it never did.
    """

    as_of: datetime
    since: datetime | None = None
    seed: int = 0
    relevance: Callable[[pl.DataFrame], np.ndarray] | None = None
    every: timedelta | None = None
    changed: datetime | None = None


@runtime_checkable
class Selection(Protocol):
    """A choice of rows to train on."""

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id.

        ``rows`` are the labelled rows known at the moment, sorted by time and id.
        """


@runtime_checkable
class Model(Protocol):
    """What came out of a training: answers rows."""

    @property
    def task(self) -> str:
        """One of ``"binary"``, ``"multiclass"``, ``"regression"``."""

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels in the order of the columns of probabilities; empty for regression."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns the model needs."""

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Return scores, float64: (n,) probabilities of the second class, (n, classes), or (n,) values."""

    def codes(self, labels: pl.Series) -> np.ndarray:
        """Return labels as places in `classes` (-1 for one it does not know), or as values."""

    def dumps(self) -> bytes:
        """Return the model as bytes; equal trainings give equal bytes."""


@runtime_checkable
class Learner(Protocol):
    """A way of training."""

    @property
    def name(self) -> str:
        """What trains, with its parameters: ``LGBMClassifier(n_estimators=200)``."""

    @property
    def fingerprint(self) -> str:
        """A digest of class and parameters, the same in every process."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, as JSON can hold them."""

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Model | None, seed: int
    ) -> Model:
        """Return a model trained on rows that carry their label in ``_label``, in the order given.

        ``start`` is ``"scratch"``, ``"pretrained"``, ``"champion"`` or ``"transfer"``; for the
        last two ``previous`` is the champion, or the model of another stream. A learner that
        has `ways` names the pairs of start and update that it knows, and is asked for no other.
        One with ``weighs = True`` heeds what rows weigh, where they have a column ``_weight``.
        One whose models grow with every warm start has ``full(model)``, which says whether a
        training from scratch is due instead. One with ``incremental = True`` follows new rows by
        learning them alone from the champion, and does so where a pipeline names no recipes.
        """


class Metric(Protocol):
    """A measure of how good scores are."""

    @property
    def name(self) -> str:
        """The metric's name."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater value is a better one."""

    def value(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """Return the metric; NaN where it is not defined (one class, no rows).

        One with ``weighs = True`` takes what rows weigh as a third argument, here and in
        `interval`, where it is the last.
        """

    def interval(
        self, labels: np.ndarray, scores: np.ndarray, level: float = 0.95
    ) -> tuple[float, float]:
        """Return a confidence interval of the metric; NaN where there is none."""

    def losses(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray | None:
        """Return the loss of each row, less is better; None when the metric has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Challenger and champion on a stretch of the past, which either may have been trained on."""

    from_: datetime
    to: datetime
    labels: np.ndarray
    challenger: np.ndarray
    champion: np.ndarray
    weights: np.ndarray | None = None


class Footprint(Protocol):
    """What it takes to serve a model beside what its answers are worth; measured when asked."""

    def size(self) -> int:
        """Return the bytes of its file."""

    def seconds(self, rows: int) -> float | None:
        """Return how long it takes to answer so many rows at once; None where nothing is timed."""

    def trouble(self, within: float) -> str:
        """Return why a clean process does not answer as this one within so many seconds, or ``""``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Challenger and champion on the same labelled rows, neither of which trained on them.

    ``labels`` are codes of the classes (or values), in order of event time; ``times`` are
    microseconds. ``rows`` holds the features, for slices. ``look`` counts how often this
    challenger has been judged, ``passed`` names the gates that it had passed at the look before,
    and ``challengers`` is how many share the turn's level. ``past`` are stretches of the past,
    oldest first. ``weights`` say what each row weighs, None where all weigh the same. The
    footprints say what it takes to serve each; None where that is not known, as of live rows.
    """

    metric: Metric
    labels: np.ndarray
    challenger: np.ndarray
    champion: np.ndarray | None
    times: np.ndarray
    rows: pl.DataFrame
    look: int = 1
    challengers: int = 1
    past: tuple[Past, ...] = ()
    weights: np.ndarray | None = None
    footprint: Footprint | None = None
    champion_footprint: Footprint | None = None
    passed: tuple[str, ...] = ()


@runtime_checkable
class Gate(Protocol):
    """What a challenger must show.

    At the end of a rollout it is asked again, about live rows. One that has nothing to say of
    them, as where a person was asked, has ``live = False``.
    """

    @property
    def name(self) -> str:
        """The gate's name with its margin, as verdicts show it."""

    def judge(self, comparison: Comparison) -> Verdict:
        """Return promote, refuse or not enough evidence, with the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One training: the recipe, its rows and its limits.

    ``rows`` carry ``_label`` and the features, in the order to train in. ``previous`` is
    the bytes of the model to start from. ``seconds`` and ``bytes`` are limits of its own;
    ``expected`` are the seconds that it takes at most as far as is known, for an executor to
    which no limit was stated.
    """

    learner: Learner
    rows: pl.DataFrame
    start: str = "scratch"
    update: str = "all"
    previous: bytes | None = None
    seed: int = 0
    seconds: float | None = None
    bytes: float | None = None
    expected: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a training ended: a model as bytes, or a reason.

    ``reason`` is None on success, else one of ``"raised"``, ``"crashed"``, ``"timed out"``,
    ``"out of memory"``, ``"not finite"``; ``message`` is what a person should read. ``findings``
    say what of its rows a model did not learn.
    """

    cost: Cost
    model: bytes | None = None
    reason: str | None = None
    message: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@runtime_checkable
class Executor(Protocol):
    """Where trainings run."""

    def run(self, task: Task) -> Result:
        """Train, and return how it ended; never raises for what the training did."""

    def close(self) -> None:
        """Let go of what the executor holds."""
