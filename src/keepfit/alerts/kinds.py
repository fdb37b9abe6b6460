"""Which facts are worth an alert, and what it says."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from keepfit import facts
from keepfit.facts import Answer, Entry
from keepfit.results.sentences import Line, Story, cause


class Kind(StrEnum):
    """What an alert is about."""

    DRIFT = "drift"
    DECAY = "decay"
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

GOOD = frozenset({Kind.PROMOTED, Kind.RESUMED})
BAD = frozenset({Kind.FAILED, Kind.ROLLED_BACK, Kind.NOT_SERVED})


class Message(NamedTuple):
    """An alert: about what, since which fact, in which words, and what to look at.

    ``cause`` is the same for alerts of one cause, of which the first is told; it is empty where
    each is an event of its own. ``look`` is what follows ``keepfit`` on the command line and the
    server's address in a link: ``why/v7``, or ``status``.
    """

    kind: Kind
    seq: int
    at: datetime
    title: str
    body: str
    look: str
    cause: str = ""


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
            title=f"{self.pipeline}: {what}",
            body=text,
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


def _kind(fact: facts.Fact) -> Kind | None:
    """Return what an alert of a fact would be about."""
    if isinstance(fact, facts.Judged):
        refused = fact.answer == Answer.REFUSE and not fact.during
        return Kind.REFUSED if refused else None
    if isinstance(fact, facts.Decided):
        decay = fact.decision.train and cause(fact.decision) == "decay"
        return Kind.DECAY if decay else None
    if isinstance(fact, facts.Signalled):
        return Kind.NOT_SERVED if fact.event == facts.NOT_SERVED else None
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
