"""Facts about rows: what arrived, what was found in it, how its champion did on it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from keepfit.facts.base import Fact
from keepfit.facts.parts import ColumnDrift, Cost, Finding

FAILING = "answers"
"""What a finding names as its check that says which rows a version could not answer."""


class Arrived(Fact, frozen=True, kw_only=True):
    """A batch of rows and labels landed in the lake.

    ``cursor`` says where its source goes on; a long one as what differs from the batch before.
    ``lost`` names columns the lake knows and the batch did not have, ``retyped`` those whose
    values came in another kind and were not kept, with that type. ``drawn`` counts the rows of
    which chance said whether they pass, ``explored`` those of them that did. ``repeated`` counts
    those whose id came again at the same time with other content; the last one landed.
    ``revised`` counts the rows, and ``relabelled`` the labels, whose id had one already.
    """

    batch: int
    rows: int
    labels: int
    cursor: str
    digest: str
    from_: datetime | None = None
    to: datetime | None = None
    watermark: datetime | None = None
    duplicates: int = 0
    corrections: int = 0
    revised: int = 0
    relabelled: int = 0
    late: int = 0
    lost: tuple[str, ...] = ()
    retyped: dict[str, str] = {}
    drawn: int = 0
    explored: int = 0
    repeated: int = 0


class Found(Fact, frozen=True, kw_only=True):
    """The checks' findings about a batch; and later, where there are, those of `FAILING` alone."""

    batch: int
    findings: tuple[Finding, ...]

    @property
    def failing(self) -> bool:
        """Whether it says that rows could not be answered, and not what the checks found."""
        return bool(self.findings) and all(one.check == FAILING for one in self.findings)


class Quarantined(Fact, frozen=True, kw_only=True):
    """A batch was set apart whole: it never trains and never becomes reference."""

    batch: int
    rows: int
    reason: str


class Scored(Fact, frozen=True, kw_only=True):
    """How a version did on a batch whose labels are mature.

    Of the labels that are none of the classes it knows, ``unknown`` counts those that are classes,
    whose rows count as wrong, and ``unlearnt`` the others, which count for nothing. ``failed``
    counts rows that it could not answer, which count as wrong too.
    """

    batch: int
    version: str
    metric: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    from_: datetime | None = None
    to: datetime | None = None
    reason: str | None = None
    unlearnt: dict[str, int] = {}
    unknown: dict[str, int] = {}
    failed: int = 0


class Estimated(Fact, frozen=True, kw_only=True):
    """How a version is expected to have done on a batch whose labels are still to come.

    ``trust`` is the belief put in it, from 0 to 1, and ``unlike`` the share of rows unlike
    anything it was learnt from.
    """

    batch: int
    version: str
    metric: str
    value: float
    n: int
    low: float
    high: float
    trust: float
    unlike: float
    from_: datetime | None = None
    to: datetime | None = None


class Compared(Fact, frozen=True, kw_only=True):
    """How versions did, or would have done, on a batch that none of them was trained on.

    ``values`` holds the metric by version: of the champion that served, and of those that
    different recipes made in one turn, of which the gate let one serve.
    """

    batch: int
    metric: str
    n: int
    values: dict[str, float]


class DetectorAdvanced(Fact, frozen=True, kw_only=True):
    """A detector looked at a batch: the columns that moved most, worst first.

    ``state`` is what it goes on from with the next batch, where evidence adds up; then
    ``evidence`` is held against ``threshold``, and ``provisional`` says that the reference
    is short for the rate of false alarms that it promises. ``together`` is how many batches it looked
    at as one: up to this one, or to the one before where this one is the first of a new cadence.
    """

    batch: int
    detector: str
    columns: tuple[ColumnDrift, ...]
    drifted: int = 0
    state: dict[str, Any] = {}
    evidence: float | None = None
    threshold: float | None = None
    provisional: bool = False
    together: int = 1


class Drifted(Fact, frozen=True, kw_only=True):
    """A detector raised an alarm: columns that had not drifted before."""

    batch: int
    detector: str
    columns: tuple[ColumnDrift, ...]
    of: int
    rows_to: datetime | None = None


class Assessed(Fact, frozen=True, kw_only=True):
    """What a batch means to the champion, and what to do with it.

    ``verdict`` is ``"ignore"``, ``"keep"``, ``"learn"`` or ``"quarantine"``. ``new`` is the
    AUC with which the batch is told from the champion's training rows (0.5: not at all);
    ``harm`` the change of the metric for the worse, ``estimated`` while labels are missing;
    ``informative`` the share of rows on which the champion is uncertain or wrong;
    ``redundant`` the share of rows much like ones it was trained on. None: not measured.
    """

    batch: int
    version: str
    verdict: str
    reasons: tuple[str, ...]
    rows: int
    valid: bool = True
    new: float | None = None
    harm: float | None = None
    estimated: bool = False
    informative: float | None = None
    redundant: float | None = None


class Probed(Fact, frozen=True, kw_only=True):
    """What a fresh model would gain, measured with small models: the probes.

    One probe learnt from rows like the champion's, one from rows as a training would take them
    now, by ``recipe``; both answered the same ``rows`` labelled rows, the newest, that neither
    had seen. ``stale`` and ``fresh`` are their mean losses, ``gap`` what the fresh one loses
    less, a row, with its standard ``error``. ``scale`` is the loss of the best answer that is
    the same for all rows, 1 where losses are rights and wrongs. ``drawn`` counts the rows that
    each probe learnt from, ``age`` those that had come since the last training;
    ``training_seconds`` is the forecast CPU of a turn of training.
    """

    batch: int
    version: str
    reason: str
    recipe: str
    loss: str
    rows: int
    stale: float
    fresh: float
    gap: float
    error: float
    scale: float = 1.0
    drawn: tuple[int, ...] = (0, 0)
    age: int = 0
    from_: datetime | None = None
    to: datetime | None = None
    training_seconds: float | None = None
    cost: Cost = Cost()
