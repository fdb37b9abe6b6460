"""Which facts are worth an alert, and what it says."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from keepfit import facts
from keepfit.facts import Answer, Entry
from keepfit.results.approvals import command
from keepfit.results.line import Line
from keepfit.results.sentences import Story, cause

if TYPE_CHECKING:
    from keepfit.ledger.steps import Steps


class Kind(StrEnum):
    """What an alert is about."""

    DRIFT = "drift"
    DECAY = "decay"
    APPROVAL = "waiting for approval"
    REFUSED = "refused"
    ROLLED_OUT = "rolled out"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    NOT_SERVED = "not served"
    PAUSED = "paused"
    RESUMED = "resumed"
    STALE_LABELS = "stale labels"


KINDS = tuple(kind.value for kind in Kind)

STUCK = "stuck "
"""What the causes begin with for which the loop does not come through a step."""

GOOD = frozenset({Kind.PROMOTED, Kind.RESUMED})
BAD = frozenset({Kind.FAILED, Kind.ROLLED_BACK, Kind.NOT_SERVED})


class Message(NamedTuple):
    """An alert: about what, since which fact, in which words, and what to look at.

    ``cause`` is the same for alerts of one cause, of which the first is told; it is empty where
    each is an event of its own. ``look`` is what follows ``keepfit`` on the command line and the
    server's address in a link: ``why/v7``, or ``status``. ``again`` is after how long it is told
    again, where it says so itself. What is ``standing`` is no event: it is told while it lasts,
    whatever has been told of facts.
    """

    kind: Kind
    seq: int
    at: datetime
    title: str
    body: str
    look: str
    cause: str = ""
    again: timedelta | None = None
    standing: bool = False


class Chronicle:
    """Makes alerts of the facts of one pipeline, which it hears in their order.

    The words are those of the terminal and of `keepfit log`. What comes with every step, as
    the promotion of a small update, is no alert.
    """

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self._story = Story()
        self._recipes: dict[str, str] = {}

    def hear(self, entry: Entry) -> Message | None:
        """Return the alert that the next fact is, None for one that is none."""
        line = self._story.line(entry)
        fact = entry.fact
        if isinstance(fact, facts.TrainingStarted):
            self._recipes[fact.version] = fact.challenger
        kind = _kind(fact)
        if kind is None or not (line.loud or kind is Kind.DECAY):
            return None
        return self._message(kind, entry, line)

    def _message(self, kind: Kind, entry: Entry, line: Line) -> Message:
        fact = entry.fact
        version = getattr(fact, "version", None)
        what = "decay" if kind is Kind.DECAY else line.what
        text = fact.decision.reason if isinstance(fact, facts.Decided) else line.text
        if isinstance(fact, facts.TrainingFailed):
            text = f"{fact.reason}: {fact.message}".strip()
        return Message(
            kind=kind,
            seq=entry.seq,
            at=entry.at,
            title=cleaned(f"{self.pipeline}: {what}").replace("\n", " "),
            body=cleaned(text),
            look="status" if version is None else f"why/{version}",
            cause=self._cause(fact),
        )

    def _cause(self, fact: facts.Fact) -> str:
        if isinstance(fact, facts.Drifted):
            return "drift " + " ".join(sorted(column.column for column in fact.columns))
        if isinstance(fact, facts.TrainingFailed):
            return f"failed {self._recipes.get(fact.version, '')} {fact.reason}"
        if isinstance(fact, facts.Judged):
            return f"refused {self._recipes.get(fact.version, '')}"
        if isinstance(fact, facts.Decided):
            return "decay"
        if isinstance(fact, facts.Quarantined):
            return f"quarantined {fact.reason}"
        if isinstance(fact, facts.Signalled):
            return f"not served {fact.data.get('version')}"
        return ""


class Waiting:
    """Batches whose rows were answered, and whose labels have not come."""

    def __init__(self) -> None:
        self._batches: dict[int, facts.Arrived] = {}
        self._answers = False

    def hear(self, fact: facts.Fact) -> None:
        """Take in the next fact."""
        if isinstance(fact, facts.Promoted):
            self._answers = True
        elif isinstance(fact, facts.Arrived) and self._answers and fact.rows and fact.to:
            self._batches[fact.batch] = fact
        elif isinstance(fact, facts.Scored | facts.Quarantined):
            self._batches.pop(fact.batch, None)

    def since(self) -> datetime | None:
        """Return the event time up to which the batch that waits longest reaches."""
        return min((one.to for one in self._batches.values() if one.to is not None), default=None)

    def rows(self) -> int:
        """Return how many rows wait."""
        return sum(one.rows for one in self._batches.values())


class Unapproved:
    """The version that waits for a person, and since when a person has been waited for."""

    def __init__(self) -> None:
        self.open: facts.ApprovalAsked | None = None
        self.cause = ""
        self._since: datetime | None = None
        self._said = False

    def hear(self, entry: Entry) -> None:
        """Take in the next fact.

        Versions that replace each other are one cause: people are told of the newest in its time.
        """
        fact = entry.fact
        if isinstance(fact, facts.ApprovalAsked):
            if self.open is None or fact.replaces is None or self._said:
                self.cause, self._said = f"approval {fact.version}", False
            self.open, self._since = fact, entry.at
        elif isinstance(fact, facts.Approved | facts.Declined):
            self._said = self._said or self._is(fact.version)
        elif self._ends(fact):
            self.open, self._said = None, False

    def message(self, pipeline: str, seq: int, now: datetime) -> Message | None:
        """Return what people are told while nobody has answered."""
        fact, since = self.open, self._since
        if fact is None or since is None or self._said or now >= fact.until:
            return None
        instead = f", instead of {fact.replaces}" if fact.replaces else ""
        return Message(
            kind=Kind.APPROVAL,
            seq=seq,
            at=now,
            title=f"{pipeline}: {fact.version} waiting for approval",
            body=f"{fact.version} waits since {since:%Y-%m-%d %H:%M} until {fact.until:%Y-%m-%d %H:%M}"
            f"{instead}; it passed the rest: {cleaned(fact.reason)}\n"
            f"{command(fact.version)} lets it go on, `keepfit refuse` ends it",
            look=f"why/{fact.version}",
            cause=self.cause,
            again=fact.remind,
            standing=True,
        )

    def _is(self, version: str) -> bool:
        return self.open is not None and self.open.version == version

    def _ends(self, fact: facts.Fact) -> bool:
        """Return whether a fact ends the wait: a last word, or another champion."""
        if isinstance(fact, facts.Judged):
            over = fact.answer == Answer.REFUSE if fact.during else True
            return over and self._is(fact.version)
        if isinstance(fact, facts.RolledBack):
            return fact.share is None
        return isinstance(fact, facts.Promoted)


def stuck(pipeline: str, seq: int, now: datetime, steps: Steps) -> Message:
    """Return what people are told while the loop does not come through a step."""
    since = "" if steps.since is None else f" since {steps.since:%Y-%m-%d %H:%M}"
    return Message(
        kind=Kind.FAILED,
        seq=seq,
        at=now,
        title=f"{pipeline}: the loop is stuck",
        body=f"it has not come through a step{since}, {steps.failed} times in a row: "
        f"{cleaned(steps.error)}\n"
        "what is answered is kept; nothing lands, and nothing is trained or promoted",
        look="status",
        cause=f"{STUCK}{steps.kind}",
        standing=True,
    )


def cleaned(text: str) -> str:
    r"""Return text as it may stand in a message: what it was put together from may be anybody's.

    Examples
    --------
    >>> print(cleaned("urgent" + chr(27) + "[2J"))
    urgent\x1b[2J
    """
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode()
        for one in text
    )


def _kind(fact: facts.Fact) -> Kind | None:
    """Return what an alert of a fact would be about."""
    if isinstance(fact, facts.Judged):
        refused = fact.answer == Answer.REFUSE and fact.during in ("", "approval")
        return Kind.REFUSED if refused else None
    if isinstance(fact, facts.Decided):
        decay = fact.decision.train and cause(fact.decision) == "decay"
        return Kind.DECAY if decay else None
    if isinstance(fact, facts.Signalled):
        return Kind.NOT_SERVED if fact.own else None
    return _PLAIN.get(type(fact))


_PLAIN: dict[type[facts.Fact], Kind] = {
    facts.Drifted: Kind.DRIFT,
    facts.RolledOut: Kind.ROLLED_OUT,
    facts.Promoted: Kind.PROMOTED,
    facts.RolledBack: Kind.ROLLED_BACK,
    facts.TrainingFailed: Kind.FAILED,
    facts.Quarantined: Kind.QUARANTINED,
    facts.Paused: Kind.PAUSED,
    facts.Resumed: Kind.RESUMED,
}
