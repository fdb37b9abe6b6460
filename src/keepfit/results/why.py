"""Why a version is what it is, and why the last decision was what it was: the chain of facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit import facts, rollouts
from keepfit.costs import took
from keepfit.errors import VersionUnknown
from keepfit.facts import Answer, Decision, Entry
from keepfit.registry import State, Version
from keepfit.results import adoptions, approvals, page, transfers
from keepfit.results.costs import forecasted
from keepfit.results.failing import unlearnt
from keepfit.results.sentences import (
    OWN,
    Story,
    counted,
    figure,
    figures,
    mean,
    metric,
)

if TYPE_CHECKING:
    import polars as pl

MARKS = {Answer.PROMOTE: "✓", Answer.REFUSE: "✕", Answer.NOT_ENOUGH: "…"}
SHOWN = 6
"""Parameters, packages and parts of evidence shown in text; `to_dict` has all."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Why:
    """The chain of facts behind a version; behind the last decision when none is asked for.

    ``sections`` hold titles with their lines, in the order of the loop: trigger, data,
    learner, what was taken over, training, gate, approval, release. ``entries`` are the facts themselves.
    """

    pipeline: str
    version: str | None
    state: str
    head: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    entries: tuple[Entry, ...]
    hint: str | None = None

    @classmethod
    def of(cls, name: str, state: State, version: str | None, entries: Iterable[Entry]) -> Why:
        """Return why a version is what it is; without one, why the last decision was made.

        Raises
        ------
        NoChampion
            The version is ``"champion"`` and nothing serves.
        VersionUnknown
            No version has this name, or nothing was decided yet.
        """
        if version is None:
            return _of_decision(name, entries)
        return _of_version(name, state, state.version(version), entries)

    def to_dict(self) -> dict[str, Any]:
        """Return the chain as JSON can hold it, the facts in full."""
        return {
            "pipeline": self.pipeline,
            "version": self.version,
            "state": self.state,
            "why": self.head,
            "sections": {title: list(lines) for title, lines in self.sections},
            "facts": [
                {
                    "seq": one.seq,
                    "at": page.plain(one.at),
                    "kind": one.fact.kind,
                    **page.plain(one.fact),
                }
                for one in self.entries
            ],
        }

    def to_frame(self) -> pl.DataFrame:
        """Return one row per fact of the chain: number, moment, kind and sentence."""
        from keepfit.results.log import frame

        return frame(self.entries)

    def __repr__(self) -> str:
        hint = f"\n\n  hint: {self.hint}" if self.hint else ""
        return f"{self.head}\n\n{page.rows(self.sections)}{hint}"


# A version ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chain:
    """The facts about one version, by what they say."""

    decided: Entry | None
    trained: Entry | None
    judged: list[tuple[datetime, facts.Judged]]
    rolled_out: list[tuple[datetime, facts.RolledOut]]
    promoted: list[tuple[datetime, facts.Promoted]]
    rolled_back: list[tuple[datetime, facts.RolledBack]]
    replaced: tuple[datetime, facts.Promoted] | None
    scored: list[facts.Scored]
    entries: list[Entry]

    @classmethod
    def of(cls, version: Version, entries: Iterable[Entry]) -> _Chain:
        chain = cls(None, None, [], [], [], [], None, [], [])
        for entry in entries:
            if chain.take(version, entry):
                chain.entries.append(entry)
        return chain

    def take(self, version: Version, entry: Entry) -> bool:
        fact, at, name = entry.fact, entry.at, version.name
        if isinstance(fact, facts.Decided) and fact.decision.train and fact.turn == version.turn:
            self.decided = entry
        elif isinstance(fact, facts.Trained | facts.TrainingFailed) and fact.version == name:
            self.trained = entry
        elif isinstance(fact, facts.Judged) and fact.version == name:
            self.judged.append((at, fact))
        elif isinstance(fact, facts.RolledOut) and fact.version == name:
            self.rolled_out.append((at, fact))
        elif isinstance(fact, facts.Promoted) and fact.version == name:
            self.promoted.append((at, fact))
        elif isinstance(fact, facts.Promoted) and fact.previous == name:
            self.replaced = at, fact
        elif isinstance(fact, facts.RolledBack) and (
            fact.version == name or (fact.to == name and fact.share is None)
        ):
            self.rolled_back.append((at, fact))
        elif isinstance(fact, facts.Scored) and fact.version == name:
            self.scored.append(fact)
            return False
        else:
            begins = facts.TrainingStarted | facts.Sampled | facts.Adopted
            started = isinstance(fact, begins) and fact.version == name
            return started or approvals.concerns(fact, name)
        return True


def _of_version(name: str, state: State, version: Version, entries: Iterable[Entry]) -> Why:
    chain = _Chain.of(version, entries)
    when = chain.entries[-1].at if chain.entries else version.started_at
    if version.state in ("champion", "previous") and version.promoted_at is not None:
        when = version.promoted_at
    titled = (
        ("trigger", _trigger(version, chain)),
        ("data", adoptions.told(version) or _data(version)),
        ("learner", _learner(version)),
        ("taken over", transfers.told(version)),
        ("training", [] if version.origin is not None else _training(version, chain)),
        ("gate", _gate(version, chain)),
        ("approval", approvals.told(version.name, chain.entries)),
        ("release", _release(version, state, chain)),
    )
    return Why(
        pipeline=name,
        version=version.name,
        state=version.state,
        head=f"{name} · {version.name} {_stands(version, page.day(when))}",
        sections=tuple((title, tuple(lines)) for title, lines in titled if lines),
        entries=tuple(chain.entries),
        hint=_hint(version),
    )


def _stands(version: Version, when: str) -> str:
    if version.state == "failed":
        return f"failed: its training of {page.day(version.started_at)} ended without a model"
    known = {
        "skipped": f"not trained: a part of its rows told enough, on {when}",
        "training": f"being trained since {page.day(version.started_at)}",
        "waiting": "waiting for its gate's evidence",
        "waiting for approval": f"waiting for a person to approve it, since {when}",
        "refused": f"refused, on {when}",
        "passed": f"passed, on {when}, but another challenger was better",
        "superseded": f"superseded on {when}, before it could be promoted",
        "rolling out": f"being rolled out, since {when}",
        "champion": f"champion, since {when}",
        "previous": f"previous: champion from {when} until another replaced it",
        "retired": "retired: it served, and two others have since",
        "rolled back": f"rolled back, on {when}",
    }
    return f"is {known.get(version.state, version.state)}"


def _trigger(version: Version, chain: _Chain) -> list[str]:
    if chain.decided is None or not isinstance(chain.decided.fact, facts.Decided):
        return [version.trigger] if version.trigger else []
    return [f"decided on {page.day(chain.decided.at)}", *_reasons(chain.decided.fact.decision)]


def _reasons(decision: Decision) -> list[str]:
    """Return what each part of a trigger said, those that fired first."""
    if not decision.parts:
        said = "yes" if decision.train else "no "
        return [f"{said} {decision.trigger}: {decision.reason}", *_evidence(decision)]
    parts = sorted(decision.parts, key=lambda part: not part.train)
    told = [line for part in parts for line in _reasons(part)]
    told += [fell] if (fell := decision.evidence.get("fell")) else []
    not_run: dict[str, str] = decision.evidence.get("not_run", {})
    told += [f"not run: {name}: {why}" for name, why in not_run.items()]
    if decision.trigger in OWN:
        return [f"yes {decision.trigger}: {decision.reason}", *told]
    held = decision.evidence.get("held_by")
    return [f"no  {decision.reason}", *told] if held else told


def _evidence(decision: Decision) -> list[str]:
    if not decision.train:
        return []
    shown = [
        f"{key.replace('_', ' ')} {_value(value)}"
        for key, value in decision.evidence.items()
        if isinstance(value, str | int | float) and value != ""
    ]
    return [f"    {', '.join(shown[:SHOWN])}"] if shown else []


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return figure(value) if isinstance(value, float) else str(value)


def _data(version: Version) -> list[str]:
    snapshot = version.snapshot
    lines = [
        f"{counted(snapshot.rows, 'row')} labelled by {page.day(snapshot.as_of)}, "
        f"{page.day(snapshot.from_)} → {page.day(snapshot.to)}, digest {snapshot.digest[:8]}",
        f"chosen by {snapshot.selection} from batches 1 to {snapshot.batch}",
    ]
    if snapshot.excluded:
        apart = counted(len(snapshot.excluded), "batch")
        lines.append(f"without {apart} in quarantine: {_some(snapshot.excluded)}")
    if snapshot.unlearnt:
        lines.append(f"without {unlearnt(snapshot.unlearnt)}")
    if version.judged_from is not None:
        lines.append(f"rows from {page.day(version.judged_from)} on were kept to judge")
    return lines


def _learner(version: Version) -> list[str]:
    if version.origin is not None:
        return [f"model {version.artifact[:8]}, {counted(len(version.features), 'feature')}"]
    start = f"from {version.start}" + (f" ({version.parent})" if version.parent else "")
    if version.donor is not None:
        start = f"from {version.donor.pipeline}@{version.donor.version}"
        start += f", model {version.donor.artifact[:8]}" if version.donor.artifact else ""
    if version.update != "all":
        start += f", {version.update} only"
    lines = [f"{version.challenger}: {start}, seed {version.seed}"]
    if version.afresh:
        lines.append(f"from scratch, because {version.afresh}")
    if version.code:
        features = counted(len(version.features), "feature")
        lines.append(f"code {version.code[:8]}, model {version.artifact[:8]}, {features}")
    stated = [f"{key}={value!r}" for key, value in version.parameters.items() if value is not None]
    if stated:
        lines.append(_some(stated))
    if version.packages:
        lines.append(_some(f"{key} {value}" for key, value in version.packages.items()))
    return lines


def _training(version: Version, chain: _Chain) -> list[str]:
    if version.state == "skipped":
        return _tried(version)
    if chain.trained is None:
        begun = f"begun on {page.day(version.started_at)}, over by {page.day(version.ready_at)}"
        told = [] if version.forecast is None else [forecasted(version.forecast)]
        return [*_tried(version), begun, *told]
    cost = version.cost
    spent = [
        f"{took(cost.cpu_seconds)} of CPU",
        f"{took(cost.wall_seconds)} of time",
    ]
    if cost.peak_bytes:
        spent.append(f"{cost.peak_bytes / 2**20:,.0f} MiB at most")
    ended = f"{', '.join(spent)}, ended on {page.day(chain.trained.at)}"
    lines = [*_tried(version), ended]
    if version.forecast is not None:
        lines.append(f"{forecasted(version.forecast)}, was {took(cost.cpu_seconds)} of CPU")
    for found in version.findings:
        lines.append(f"! {found.message}")
        lines.extend([f"  hint: {found.hint}"] if found.hint else [])
    if isinstance(chain.trained.fact, facts.TrainingFailed):
        said = f"✕ {chain.trained.fact.reason}: {chain.trained.fact.message.strip()}"
        lines.extend(line for line in said.splitlines() if line.strip())
        if chain.trained.fact.reason == facts.UNLEARNT and version.retry_of is None:
            lines.append("it was run once more at once")
    if version.retry_of is not None:
        lines.append(f"{version.retry_of} once more, which did not learn its rows")
    return lines


def _tried(version: Version) -> list[str]:
    """Return what parts of its rows told of a version, where it was tried on any."""
    fact = version.sampled
    if fact is None:
        return []
    said = f"tried {fact.reason}; {took(fact.cost.cpu_seconds)} of CPU"
    return [said, "✕ not trained on all of them"] if fact.skipped else [said]


def _gate(version: Version, chain: _Chain) -> list[str]:
    lines = []
    for at, judged in (one for one in chain.judged if not one[1].during):
        look = f" (look {judged.look})" if judged.look > 1 else ""
        beside = f"against {judged.champion} on {counted(judged.rows, 'row')}"
        lines.append(
            f"{beside if judged.champion else 'the first: against nothing'}, on {page.day(at)}{look}"
        )
        if judged.value is not None and judged.champion_value is not None:
            both = f"{judged.metric} {figure(judged.value)} against {figure(judged.champion_value)}"
            lines.append(f"  {both}{_at_once(judged)}")
        lines.extend(f"  {MARKS[one.answer]} {one.gate}: {figures(one)}" for one in judged.verdicts)
        lines.extend(f"  {text}" for text in (_moved(judged.scores), _forgot(judged)) if text)
    if not lines and version.state == "waiting":
        return ["to be judged as soon as labels of rows that nobody trained on are there"]
    return lines


def _at_once(judged: facts.Judged) -> str:
    """Return that a gain is no difference of the values beside it, where it is none.

    A metric of one's own that says nothing of its rows is measured block by block.
    """
    if judged.value is None or judged.champion_value is None:
        return ""
    apart, near = abs(judged.value - judged.champion_value), 5e-4 * max(1.0, abs(judged.value))
    whole = [one for one in judged.verdicts if one.slice is None and "champion" in one.gate]
    other = any(one.value is not None and abs(abs(one.value) - apart) > near for one in whole)
    return " on all rows at once; the gain below is a mean over blocks of time" if other else ""


def _moved(scores: facts.ScoresMoved | None) -> str:
    if scores is None:
        return ""
    rate = ""
    if scores.before is not None and scores.now is not None:
        rate = f"; {scores.now:.1%} reach {figure(scores.at or 0.0)}, {scores.before:.1%} before"
    return f"scores: {scores.distance:.1%} move past some cut-off{rate}"


def _forgot(judged: facts.Judged) -> str:
    """Return the stretch of the past on which the challenger is furthest behind, if on any."""
    measured = [one for one in judged.past if one.gain is not None]
    if not measured:
        return ""
    worst = min(measured, key=lambda one: one.gain or 0.0)
    if (worst.gain or 0.0) >= 0:
        return "the past: on no stretch of it behind the champion"
    values = f"{figure(worst.value or 0.0)} against {figure(worst.champion_value or 0.0)}"
    return f"the past: furthest behind on {page.span(worst.from_, worst.to)}, {values}"


def _release(version: Version, state: State, chain: _Chain) -> list[str]:
    told = [(at, _stage(at, fact)) for at, fact in chain.rolled_out]
    told += _looks([(at, fact) for at, fact in chain.judged if fact.during])
    for at, promoted in chain.promoted:
        by = f"by {promoted.by}" + (", against its gate" if promoted.forced else "") + ": "
        who = "" if promoted.by == "keepfit" else by
        replaced = f", replacing {promoted.previous}" if promoted.previous else ""
        told.append((at, f"● promoted on {page.day(at)}{replaced}: {who}{promoted.reason}"))
    for at, back in chain.rolled_back:
        if back.version == version.name:
            to = f"to {back.to}" if back.share is None else f"(champion stays {back.to})"
            told.append((at, f"↩ rolled back on {page.day(at)} {to}: {back.reason}"))
        else:
            why = f"{back.version} was rolled back, {back.reason}"
            told.append((at, f"● champion again on {page.day(at)}: {why}"))
    if chain.replaced is not None:
        at, promoted = chain.replaced
        told.append((at, f"replaced by {promoted.version} on {page.day(at)}"))
    lines = [text for _, text in sorted(told, key=lambda one: one[0])]
    values = [one for one in chain.scored if one.value is not None]
    if values:
        served = metric(values[-1].metric, *mean(values))
        lines.append(f"served {counted(sum(one.n for one in values), 'labelled row')}: {served}")
    if not lines and version.state == "superseded":
        lines.append(f"{state.champion} serves instead")
    return lines


def _stage(at: datetime, fact: facts.RolledOut) -> str:
    why = f"; {fact.reason}" if fact.reason else ""
    where = f"stage {fact.stage} of {fact.stages}, to {page.day(fact.until)} at least"
    return (
        f"◐ {rollouts.told(fact.share)} from {page.day(at)}, beside {fact.champion}: {where}{why}"
    )


def _looks(looks: list[tuple[datetime, facts.Judged]]) -> list[tuple[datetime, str]]:
    """Return the looks at live rows that decided something, and the last of those that did not."""
    quiet = [(at, fact) for at, fact in looks if fact.answer == Answer.NOT_ENOUGH]
    told = [(at, _look(at, fact)) for at, fact in looks if fact.answer != Answer.NOT_ENOUGH]
    if quiet:
        at, last = quiet[-1]
        before = f", after {counted(len(quiet) - 1, 'look')} before" if quiet[1:] else ""
        told.append((at, _look(at, last) + before))
    return told


def _look(at: datetime, judged: facts.Judged) -> str:
    worst = next((one for one in judged.verdicts if one.answer == judged.answer), None)
    said = "no gate" if worst is None else figures(worst)
    rows = f"{counted(judged.rows, 'live row')} beside {judged.champion}"
    return f"{MARKS[judged.answer]} compared on {page.day(at)} on {rows}: {said}"


def _hint(version: Version) -> str | None:
    if version.state == "waiting for approval":
        return f"{approvals.command(version.name)} lets it go on, `keepfit refuse` ends it"
    if version.state == "refused":
        command = f'keepfit promote {version.name} --force --reason "…"'
        return f"`{command}` promotes it and keeps the reason"
    if version.parent is not None:
        return f"`keepfit diff {version.parent} {version.name}` shows what differs"
    return None


def _some(texts: Iterable[object]) -> str:
    listed = [str(text) for text in texts]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


# The last decision ----------------------------------------------------------------------


def _of_decision(name: str, entries: Iterable[Entry]) -> Why:
    story = Story()
    last: Entry | None = None
    after: list[Entry] = []
    for entry in entries:
        if isinstance(entry.fact, facts.Decided):
            last, after = entry, []
        elif last is not None:
            after.append(entry)
        story.line(entry)
    if last is None or not isinstance(last.fact, facts.Decided):
        raise VersionUnknown(
            f"{name!r} has not decided anything yet", hint="`keepfit run FILE --once` takes a step"
        )
    decided = last.fact
    answer = "train" if decided.decision.train else "do not train"
    about = f"on batch {decided.batch}, rows to {page.day(decided.watermark)}"
    sections: list[tuple[str, tuple[str, ...]]] = [
        ("decision", (f"{answer}: {decided.decision.reason}", about))
    ]
    if decided.decision.parts or decided.decision.evidence:
        sections.append(("trigger", tuple(_reasons(decided.decision))))
    if after:
        sections.append(
            ("since", tuple(f"{one.glyph} {one.what}: {one.text}" for one in story.lines(after)))
        )
    return Why(
        pipeline=name,
        version=None,
        state="train" if decided.decision.train else "no",
        head=f"{name} · {answer}, decided on {page.day(last.at)}",
        sections=tuple(sections),
        entries=(last, *after),
        hint="`keepfit why VERSION` explains a version; `keepfit log --kind Decided` lists all",
    )
