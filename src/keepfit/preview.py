"""What a step would find and decide, without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from keepfit import facts, maturity
from keepfit.facts import Entry, decode, encode
from keepfit.home import Memory
from keepfit.lake.unlanded import Unlanded
from keepfit.loop import Loop
from keepfit.plan import Why
from keepfit.results import Checked

if TYPE_CHECKING:
    from keepfit.facts import Fact
    from keepfit.ledger import Ledger


def preview(loop: Loop) -> Checked:
    """Return what the next step of a live loop would make of the rows not read yet.

    The batch is checked, compared with the champion's training rows, predicted and
    assessed, and the trigger asked, by the loop's own code on stores that forget. Rows that
    the lake holds already count as new.
    """
    last = loop.refold().seq
    memory = Memory(
        ledger=cast("Ledger", _Unwritten(loop.memory.ledger, last)),
        lake=Unlanded(loop.memory.lake),
        artifacts=loop.memory.artifacts,
    )
    written: list[Entry] = []
    ahead = Loop(
        loop.pipeline,
        memory,
        loop.clock,
        source=loop.source,
        every=loop.every,
        scorer=loop.scorer,
        listen=written.append,
    )
    now, state = loop.clock.now(), ahead.state
    batch = loop.source.read(state.cursor, now=now, every=loop.every)
    if batch.empty:
        seen = batch.findings + maturity.uneven(ahead, now)
        return Checked(pipeline=loop.pipeline.name, batch=state.batch, findings=seen)
    # A step that was cut short is not ended here: its batch is taken as done.
    state.decided = state.batch
    ahead.check(ahead.collect(batch, now), now)
    ahead.watch(now)
    found: list[Fact] = [entry.fact for entry in written]
    return _told(ahead, [*found, *ahead.watcher.assessed(now, found)], now)


def _told(ahead: Loop, found: Sequence[Fact], now: datetime) -> Checked:
    arrived = _last(found, facts.Arrived)
    quarantined = _last(found, facts.Quarantined)
    checked = [one for one in found if isinstance(one, facts.Found) and one.batch == arrived.batch]
    champion = ahead.state.versions.get(ahead.state.champion or "")
    asked = [finding for one in checked for finding in one.findings]
    decision = ahead.decision(now)
    if decision.train:
        plan = ahead.turns.plan(now, why=Why.of(decision), budget=True)
        decision = plan.told(decision)
    compared = None
    if champion is not None and champion.reference and arrived.rows and quarantined is None:
        rows = ahead.columns(ahead.memory.lake.batch(arrived.batch))
        compared = ahead.scorer.reference(champion.reference).check(rows)
    return Checked(
        pipeline=ahead.pipeline.name,
        batch=arrived.batch,
        rows=arrived.rows,
        labels=arrived.labels,
        from_=arrived.from_,
        to=arrived.to,
        findings=tuple(dict.fromkeys([*asked, *maturity.uneven(ahead, now)])),
        champion=None if champion is None else champion.name,
        promised=None if champion is None or champion.judged is None else champion.judged.value,
        drift=compared,
        evidence=tuple(one for one in found if isinstance(one, facts.DetectorAdvanced)),
        alarms=tuple(one for one in found if isinstance(one, facts.Drifted)),
        scored=_of(found, facts.Scored, arrived.batch),
        estimated=_of(found, facts.Estimated, arrived.batch),
        assessed=_last(found, facts.Assessed),
        quarantined=None if quarantined is None else quarantined.reason,
        decision=decision,
    )


def _last(found: Sequence[Fact], kind: type[Any]) -> Any:
    return next((one for one in reversed(found) if isinstance(one, kind)), None)


def _of(found: Sequence[Fact], kind: type[Any], batch: int) -> Any:
    return _last([one for one in found if getattr(one, "batch", None) == batch], kind)


class _Unwritten:
    """A ledger that is read as it is, and takes facts without keeping them."""

    def __init__(self, ledger: Ledger, last: int) -> None:
        self._ledger = ledger
        self._last = last

    def facts(self, pipeline: str, **asked: Any) -> Any:
        return self._ledger.facts(pipeline, **asked)

    def fold(self, pipeline: str, name: str) -> tuple[int, bytes] | None:
        return self._ledger.fold(pipeline, name)

    def save_fold(self, pipeline: str, name: str, seq: int, body: bytes) -> None:
        return None

    def lease(self, pipeline: str) -> AbstractContextManager[object]:
        return nullcontext()

    def appended(
        self, pipeline: str, new: Sequence[Fact], *, at: datetime, **told: Any
    ) -> list[Entry]:
        first = self._last + 1
        self._last += len(new)
        kept = [decode(encode(fact)) for fact in new]  # as the ledger would give them back
        return [
            Entry(pipeline=pipeline, seq=seq, at=at, fact=fact)
            for seq, fact in enumerate(kept, first)
        ]
