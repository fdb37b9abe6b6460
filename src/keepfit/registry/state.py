"""The state of a pipeline: a fold over its facts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

import msgspec

from keepfit import costs
from keepfit.batch import restored
from keepfit.errors import NoChampion, VersionUnknown, nearest
from keepfit.facts import (
    UNLEARNT,
    Adopted,
    Answer,
    ApprovalAsked,
    Approved,
    Arrived,
    Assessed,
    Compared,
    Cost,
    Decided,
    Decision,
    Declined,
    DetectorAdvanced,
    Drifted,
    Entry,
    Estimated,
    Fact,
    Found,
    Judged,
    Outcome,
    Overridden,
    Paused,
    Probed,
    Promoted,
    Quarantined,
    Resumed,
    RolledBack,
    RolledOut,
    Sampled,
    Scored,
    Signalled,
    Trained,
    TrainingFailed,
    TrainingStarted,
)
from keepfit.registry import adopted, approval, measured, sampled, serving
from keepfit.registry.level import Level
from keepfit.registry.versions import (
    ASKED,
    KEPT,
    Counts,
    Recipe,
    Request,
    Rollout,
    Service,
    Side,
    Version,
)

FORECAST_FROM = 200
"""Versions that a forecast of costs looks back on."""


class State(msgspec.Struct):
    """What the facts so far add up to; may be thrown away and folded again.

    ``unserved`` and ``unscored`` hold the batches that the champion has yet to predict and
    whose labels are not mature; ``since`` the evidence since the last decision to train, ``asked``
    and ``asked_before`` such decisions in the reign of the champion and of the one before it.
    ``moved`` names the columns beyond their limit by detector, in the newest batch;
    ``detectors`` holds where each detector goes on, by its name; ``anchor`` is the reference
    of the first champion. ``accepted`` names columns that a person let go or change their
    type. ``recent`` holds the newest scores that have 500 rows together, ``realised`` the number
    and the metric of the latest batches that were scored; ``level`` whether it fell, where the
    greater is the better, and ``losses`` where the smaller is; ``awaited`` the estimates (value, low,
    high) of batches not scored yet, by batch; ``estimates`` those of the latest batches with what was realised.
    ``learnt_to`` is the event time up to which labelled rows were at hand in the last training.
    ``followed`` names the versions of a turn or two that are compared on the batches after it, ``compared``
    what came of it. ``recipes`` holds the record of each challenger, by its name; ``outset`` is the one
    that leads as history before the first champion says. ``rollout`` is the challenger on its way, ``service`` the
    champion beside the one before, ``undone`` when champions were taken back, since the last pause
    ended. ``request`` is the version that waits for a person. ``metric`` is the one that the pipeline
    began with; ``strangers`` counts labels that what served did not know, as `registry.strangers` does.
    """

    seq: int = 0
    batch: int = 0
    checked: int = 0
    decided: int = 0
    cursor: str | None = None
    first_at: datetime | None = None
    watermark: datetime | None = None
    watched: int = 0
    quarantined: list[Arrived] = []
    let_in: list[Arrived] = []
    pending: Arrived | None = None
    unserved: list[int] = []
    unscored: list[Arrived] = []
    champion: str | None = None
    previous: str | None = None
    reigns: list[tuple[datetime, str]] = []
    versions: dict[str, Version] = {}
    turn: int = 0
    training: list[str] = []
    waiting: list[str] = []
    trained_at: datetime | None = None
    since: list[
        Arrived
        | Scored
        | Estimated
        | Drifted
        | Assessed
        | Probed
        | Signalled
        | Decided
        | Promoted
        | RolledBack
    ] = []
    asked: list[Decision] = []
    asked_before: list[Decision] = []
    assessed: int = 0
    probed: int = 0
    probes: list[Probed] = []
    probe_costs: list[tuple[datetime, float]] = []
    moved: dict[str, list[str]] = {}
    detectors: dict[str, dict[str, Any]] = {}
    anchor: str = ""
    labelled_to: datetime | None = None
    trainings: list[tuple[datetime, float]] = []
    paused: str | None = None
    schema_accepted: int = 0
    accepted: list[str] = []
    fresh: bool = False
    last_decision: Decided | None = None
    last_scored: Scored | None = None
    recent: list[Scored] = []
    realised: list[tuple[int, float]] = []
    level: Level = msgspec.field(default_factory=Level)
    losses: Level = msgspec.field(default_factory=Level)
    estimated: int = 0
    awaited: dict[int, tuple[float, float, float]] = {}
    estimates: list[tuple[float, float, float, float]] = []
    learnt_to: datetime | None = None
    followed: list[str] = []
    compared: list[Side] = []
    recipes: dict[str, Recipe] = {}
    outset: str = ""
    rollout: Rollout | None = None
    request: Request | None = None
    service: Service | None = None
    undone: list[tuple[datetime, str]] = []
    metric: str = ""
    strangers: dict[str, list[int]] = {}
    counts: Counts = msgspec.field(default_factory=Counts)

    def fold(self, entries: Iterable[Entry]) -> State:
        """Take in facts that came after ``seq``, and return the state itself."""
        for entry in entries:
            handler = _HANDLERS.get(type(entry.fact))
            if handler is not None:
                handler(self, entry.fact, entry.at)
            self.seq = entry.seq
        return self

    def version(self, name: str) -> Version:
        """Return a version by name or alias (champion, challenger, previous).

        Raises
        ------
        NoChampion
            The alias is ``champion`` and nothing serves.
        VersionUnknown
            No version has this name, or the alias points nowhere.
        """
        if name == "champion" and self.champion is None:
            raise NoChampion(
                "the pipeline has no champion to serve",
                hint="`keepfit run FILE` trains the first one",
            )
        challenger = self.waiting[-1] if self.waiting else None
        if self.request is not None:
            challenger = self.request.version
        if self.rollout is not None:
            challenger = self.rollout.fact.version
        aliases = {"champion": self.champion, "previous": self.previous, "challenger": challenger}
        found = self.versions.get(aliases.get(name) or name)
        if found is None and name in aliases:
            raise VersionUnknown(
                f"no version is {name} just now",
                hint="`keepfit status` shows what serves and waits",
            )
        if found is None:
            known = [*self.versions, *aliases]
            near = nearest(name, known)
            raise VersionUnknown(
                f"expected a version or an alias, got {name!r}; there are {len(self.versions)} versions",
                hint=f"the nearest is {near!r}"
                if near
                else "`keepfit log --kind Trained` lists them",
            )
        return found

    def root(self, version: Version | None) -> Version | None:
        """Return the version that others went on from until one became this; None where unknown."""
        while version is not None and version.start == "champion" and version.parent:
            version = self.versions.get(version.parent)
        return version

    def of_turn(self, turn: int) -> list[Version]:
        """Return the versions of a turn, in order; the newest turns are found at once."""
        newest = takewhile(lambda one: one.turn >= turn, reversed(self.versions.values()))
        return [one for one in newest if one.turn == turn][::-1]

    def serving_at(self, moment: datetime) -> str | None:
        """Return the version that served at a moment."""
        serving = None
        for at, version in self.reigns:
            if at > moment:
                break
            serving = version
        return serving

    @property
    def expected(self) -> Version | None:
        """The champion; before the first, the version that waits for a person to become it."""
        asked = None if self.request is None else self.request.version
        return self.versions.get(self.champion or asked or "")

    @property
    def drifted(self) -> list[str]:
        """The columns that lie beyond a limit in the newest batch, by any detector."""
        return list(dict.fromkeys(name for names in self.moved.values() for name in names))

    @property
    def promotion(self) -> str:
        """The id of the promotion since which the champion is held against the version before."""
        if self.service is None:
            return ""
        return f"service/{self.service.version}/{self.reigns[-1][0].timestamp():.6f}"

    @property
    def excluded(self) -> tuple[int, ...]:
        """The batches in quarantine."""
        return tuple(arrived.batch for arrived in self.quarantined)

    @property
    def spent(self) -> tuple[costs.Training, ...]:
        """What the newest trainings that became models cost, oldest first, to forecast the next."""
        newest = list(islice(reversed(self.versions.values()), FORECAST_FROM))
        return tuple(
            costs.Training(
                costs.recipe(one.code, one.start, one.update),
                one.snapshot.rows,
                one.cost.cpu_seconds,
            )
            for one in reversed(newest)
            if one.artifact and one.origin is None
        )

    def longest(self, version: Version) -> float | None:
        """Return the seconds that a version's training takes at most; None where nothing tells.

        By its forecast in CPU seconds, and by how long its recipe has taken: one that waits, as
        for another machine, uses few of them.
        """
        told = version.forecast
        if told is None or told.akin:
            return None
        alike = (one for one in self.versions.values() if one.challenger == version.challenger)
        return max(told.high, *(one.cost.wall_seconds for one in alike if one.artifact), 0.0)

    @property
    def healthy(self) -> bool:
        """Whether something serves and nobody paused the loop."""
        return self.champion is not None and self.paused is None

    def _arrived(self, fact: Arrived, at: datetime) -> None:
        self.batch, self.pending = fact.batch, fact
        self.cursor = restored(fact.cursor, self.cursor)
        if self.first_at is None:
            self.first_at = fact.from_
        if fact.watermark is not None:
            self.watermark = max(fact.watermark, self.watermark or fact.watermark)
        self.counts.rows += fact.rows - fact.revised
        self.counts.labels += fact.labels - fact.relabelled

    def _found(self, fact: Found, at: datetime) -> None:
        if fact.failing and fact.batch <= self.checked:  # a check may have that name too
            self.unserved = [number for number in self.unserved if number != fact.batch]
            return
        self.checked = fact.batch
        blocked = any(finding.outcome == Outcome.BLOCK for finding in fact.findings)
        if self.pending is not None and self.pending.batch == fact.batch and not blocked:
            self._let_in(self.pending)

    def _let_in(self, arrived: Arrived) -> None:
        if arrived.rows:
            self.let_in = [*self.let_in[-KEPT + 1 :], arrived]
            self.since.append(arrived)
            if self.champion is not None:
                self.unserved.append(arrived.batch)
                self.unscored.append(arrived)

    def _quarantined(self, fact: Quarantined, at: datetime) -> None:
        if self.pending is not None:
            self.quarantined.append(self.pending)
        self.counts.quarantined += 1

    def _overridden(self, fact: Overridden, at: datetime) -> None:
        self.fresh = True
        if fact.what == "schema":
            self.schema_accepted = self.batch + 1
            if self.pending is not None:
                changed = {*self.accepted, *self.pending.lost, *self.pending.retyped}
                self.accepted = sorted(changed)
        for arrived in [held for held in self.quarantined if held.batch == fact.batch]:
            self.quarantined.remove(arrived)
            self.counts.quarantined -= 1
            self._let_in(arrived)

    def _advanced(self, fact: DetectorAdvanced, at: datetime) -> None:
        self.watched = max(self.watched, fact.batch)
        self.moved[fact.detector] = [one.column for one in fact.columns if one.drifted]
        self.detectors[fact.detector] = fact.state

    def _drifted(self, fact: Drifted, at: datetime) -> None:
        self.since.append(fact)

    def _assessed(self, fact: Assessed, at: datetime) -> None:
        self.assessed = fact.batch
        self.since.append(fact)

    def _probed(self, fact: Probed, at: datetime) -> None:
        self.probed = fact.batch
        self.since.append(fact)
        self.counts.fit_cpu_seconds += fact.cost.cpu_seconds
        self.counts.probe_cpu_seconds += fact.cost.cpu_seconds
        if self.watermark is not None:
            self.probe_costs.append((self.watermark, fact.cost.cpu_seconds))

    def _decided(self, fact: Decided, at: datetime) -> None:
        self.decided = fact.batch
        self.last_decision = fact
        self.fresh = False
        self.unserved = []
        if fact.decision.train and fact.turn is not None:
            self.turn = fact.turn
            self.trained_at = fact.watermark
            probes = [one for one in self.since if isinstance(one, Probed)]
            self.probes = [*self.probes, *probes][-KEPT:]
            self.since, self.asked = [], [*self.asked[-ASKED + 1 :], fact.decision]
            # Whoever a person is asked about waits until a later one has passed the gates too.
            asked = None if self.request is None else self.request.version
            for name in [one for one in self.waiting if one != asked]:
                self.leave(name, "superseded")

    def _started(self, fact: TrainingStarted, at: datetime) -> None:
        trigger = self.last_decision.decision.trigger if self.last_decision else ""
        self.versions[fact.version] = Version(
            name=fact.version,
            turn=fact.turn,
            challenger=fact.challenger,
            snapshot=fact.snapshot,
            start=fact.start,
            update=fact.update,
            seed=fact.seed,
            key=fact.key,
            started_at=at,
            watermark=self.watermark,
            ready_at=fact.ready_at,
            trigger=trigger,
            parent=fact.parent,
            judged_from=fact.judged_from,
            final_of=fact.final_of,
            donor=fact.donor,
            forecast=fact.forecast,
            retry_of=fact.retry_of,
            afresh=fact.afresh,
        )
        self.training.append(fact.version)
        self.counts.trainings += 1
        recipe = self.recipes.setdefault(fact.challenger, Recipe())
        if fact.retry_of is None:
            recipe.ran(fact.snapshot.batch)
        recipe.last = fact.version
        reached = (self.learnt_to, self.labelled_to, fact.snapshot.to)
        self.learnt_to = max(moment for moment in reached if moment is not None)

    def _trained(self, fact: Trained, at: datetime) -> None:
        version = self._ended(fact.version, fact.cost)
        self.recipes[version.challenger].failures = 0
        version.state, version.trained_at = "waiting", at
        version.artifact, version.reference, version.code = fact.artifact, fact.reference, fact.code
        version.parameters, version.packages = fact.parameters, fact.packages
        version.features, version.transferred = fact.features, fact.transferred
        version.learnt, version.findings = fact.learnt, fact.findings
        self.waiting.append(fact.version)

    def _failed(self, fact: TrainingFailed, at: datetime) -> None:
        version = self._ended(fact.version, fact.cost)
        self.recipes[version.challenger].failures += 1
        version.state, version.message = "failed", fact.message
        # What is run once more has not failed yet.
        self.counts.failed += fact.reason != UNLEARNT or version.retry_of is not None

    def _ended(self, name: str, cost: Cost) -> Version:
        self.training.remove(name)
        version = self.versions[name]
        version.cost = cost
        self.counts.fit_cpu_seconds += cost.cpu_seconds
        # A last fit may start long after the decision to train.
        counted = version.watermark or self.trained_at
        if counted is not None:
            self.trainings.append((counted, cost.cpu_seconds))
        return version

    def _judged(self, fact: Judged, at: datetime) -> None:
        if fact.during == "approval":
            approval.looked(self, fact)
            return
        if fact.during:
            serving.looked(self, fact)
            return
        approval.decided(self, fact)
        version = self.versions[fact.version]
        version.judged = fact
        measured.judged(self, fact, version)
        if fact.answer == Answer.REFUSE:
            self.leave(fact.version, "refused")
            self.counts.refused += 1
        elif fact.answer == Answer.PROMOTE:
            self.leave(fact.version, "passed")

    def leave(self, name: str, state: str) -> None:
        """Let a version wait no longer."""
        self.versions[name].state = state
        self.waiting = [other for other in self.waiting if other != name]

    def _paused(self, fact: Paused, at: datetime) -> None:
        self.paused = fact.reason

    def _resumed(self, fact: Resumed, at: datetime) -> None:
        self.paused = None
        self.undone = []
        self.fresh = True

    def _signalled(self, fact: Signalled, at: datetime) -> None:
        self.fresh = True
        self.since.append(fact)

    def dumps(self) -> bytes:
        """Return the state as bytes, to cache it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, body: bytes) -> State:
        """Return the state that bytes hold.

        Raises
        ------
        msgspec.ValidationError
            The bytes come from another version of keepfit.
        """
        return msgspec.msgpack.decode(body, type=cls)


_HANDLERS: dict[type[Fact], Any] = {
    Arrived: State._arrived,
    Found: State._found,
    Quarantined: State._quarantined,
    Overridden: State._overridden,
    Scored: measured.scored,
    Estimated: measured.estimated,
    Compared: measured.compared,
    DetectorAdvanced: State._advanced,
    Drifted: State._drifted,
    Assessed: State._assessed,
    Probed: State._probed,
    Decided: State._decided,
    TrainingStarted: State._started,
    Sampled: sampled.sampled,
    Trained: State._trained,
    Adopted: adopted.adopted,
    TrainingFailed: State._failed,
    Judged: State._judged,
    ApprovalAsked: approval.asked,
    Approved: approval.answered,
    Declined: approval.answered,
    RolledOut: serving.rolled_out,
    Promoted: serving.promoted,
    RolledBack: serving.rolled_back,
    Paused: State._paused,
    Resumed: State._resumed,
    Signalled: State._signalled,
}
