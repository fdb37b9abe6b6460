"""What batches tell of the versions that answered them: realised, estimated, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from keepfit.facts import Compared, Estimated, Judged, Scored
from keepfit.registry.strangers import counted
from keepfit.registry.versions import KEPT, Side, Version

if TYPE_CHECKING:
    from keepfit.registry.state import State

MICROSECOND = timedelta(microseconds=1)

ENOUGH = 500
"""Rows that say how what serves does: of a batch with fewer, those before it count too."""

SIDES = 160
"""Times remembered that recipes were side by side: those seldom tried are known by old ones."""

REACH = 1.96
"""Standard errors from a value to the ends of its interval, which holds 95 in 100."""


def scored(state: State, fact: Scored, at: datetime) -> None:
    """Keep what a version reached on a batch whose labels are complete."""
    state.since.append(fact)
    state.unscored = [arrived for arrived in state.unscored if arrived.batch != fact.batch]
    awaited = state.awaited.pop(fact.batch, None)
    if awaited is not None and fact.value is not None:
        state.estimates = [*state.estimates[-KEPT + 1 :], (*awaited, fact.value)]
    state.last_scored = fact
    if fact.version in state.versions:
        state.versions[fact.version].scored(fact.batch, fact.value)
        _levels(state, fact, state.versions[fact.version])
    state.metric = state.metric or fact.metric
    if state.strangers or fact.unknown or fact.unlearnt:
        rows = fact.n + sum(fact.unlearnt.values())
        state.strangers = counted(state.strangers, {**fact.unknown, **fact.unlearnt}, rows)
    if fact.value is not None:
        state.recent = _recent([*state.recent, fact])
        state.realised = [*state.realised[-KEPT + 1 :], (fact.batch, fact.value)]
    if fact.to is not None:
        state.labelled_to = max(fact.to, state.labelled_to or fact.to)


def _recent(scored: list[Scored]) -> list[Scored]:
    """Return the newest batches that have so many rows together, of one metric, oldest first."""
    kept: list[Scored] = []
    for one in reversed(scored[-KEPT:]):
        if one.metric != scored[-1].metric or sum(other.n for other in kept) >= ENOUGH:
            break
        kept.append(one)
    return kept[::-1]


def _levels(state: State, fact: Scored, version: Version) -> None:
    """Keep whether what serves fell, batch by batch: what an older one reached says nothing of now."""
    newest = max((batch for batch, _ in state.realised), default=0)
    if fact.value is None or fact.from_ is None or fact.batch <= newest:
        return
    since, before = fact.from_, state.labelled_to
    if before is not None and fact.to is not None and since <= before < fact.to:
        # Rows that came late are of a time when nothing had changed yet.
        since = before + MICROSECOND
    ends = [abs(end - fact.value) for end in (fact.low, fact.high) if end is not None]
    error = max(ends, default=0.0) / REACH
    known: dict[str, Any] = {"learnt_to": version.snapshot.to, "error": error, "rows": fact.n}
    state.level.take(fact.value, fact.batch, since, **known)
    state.losses.take(-fact.value, fact.batch, since, **known)


def estimated(state: State, fact: Estimated, at: datetime) -> None:
    """Keep what is expected of a version on a batch whose labels are still to come."""
    state.since.append(fact)
    state.estimated = fact.batch
    state.awaited[fact.batch] = fact.value, fact.low, fact.high


def compared(state: State, fact: Compared, at: datetime) -> None:
    """Keep what the recipes that are followed reached side by side.

    Of two versions of one recipe a followed one counts, which is as old as the others, and of those
    the newest. Windows of an earlier turn are beside each other alone.
    """
    followed = {name: state.versions[name] for name in state.followed if name in fact.values}
    values, earlier = dict(fact.values), _earlier(followed)
    if earlier:
        reached = {one.challenger: values.pop(name) for name, one in earlier.items()}
        ages = {one.challenger: fact.batch - one.snapshot.batch for one in earlier.values()}
        _keep(state, Side(fact.n, reached, batch=fact.batch, ages=ages))
    followed = {name: one for name, one in followed.items() if name in values}
    beside = {one.turn: one for one in followed.values() if one.updated}
    side = Side(fact.n, {}, batch=fact.batch)
    for name in (*(name for name in values if name not in followed), *followed):
        one, before = state.versions[name], None
        if name in followed:
            if one.updated:
                continue
            before = beside.get(one.turn)
        for known in (side.kept, side.new, side.ages):
            known.pop(one.challenger, None)
        side.values[one.challenger] = values[name]
        if name in followed or one.start == "scratch":
            side.ages[one.challenger] = fact.batch - one.snapshot.batch
        if before is not None:
            side.kept[one.challenger] = values[before.name]
            side.new[one.challenger] = _new(state, one, before)
    _keep(state, side)


def _earlier(followed: Mapping[str, Version]) -> dict[str, Version]:
    """Return those windows that are followed beside ones of a later turn."""
    windows = {name: one for name, one in followed.items() if one.lasting}
    newest = max((one.turn for one in windows.values()), default=0)
    return {name: one for name, one in windows.items() if one.turn < newest}


def _keep(state: State, side: Side) -> None:
    state.compared = [*state.compared[-SIDES + 1 :], side]


def _new(state: State, version: Version, updated: Version) -> float:
    """Return what share of a version's rows, by event time, another had not seen from scratch."""
    first = state.root(updated)
    span = version.snapshot.to - version.snapshot.from_
    if first is None or not span:
        return 1.0
    return min(max((version.snapshot.to - first.snapshot.to) / span, 0.0), 1.0)


def judged(state: State, fact: Judged, version: Version) -> None:
    """Keep what the windows of a turn reached on the rows kept from all of them."""
    if version.final_of or version.start != "scratch" or fact.look > 1 or fact.value is None:
        return
    last = state.compared[-1] if state.compared else None
    if last is not None and (last.turn, last.n) == (version.turn, fact.rows):
        before, known, ages = state.compared[:-1], last.values, last.ages
    else:
        before, known, ages = state.compared[-SIDES + 1 :], {}, {}
    values = known | {version.challenger: fact.value}
    # The newest batch whose labels they may be of.
    batch = 0 if state.last_scored is None else state.last_scored.batch
    late = batch - version.snapshot.batch
    ages = ages | {version.challenger: late} if late < 0 else ages
    side = Side(fact.rows, values, batch=batch, turn=version.turn, ages=ages)
    state.compared = [*before, side]
