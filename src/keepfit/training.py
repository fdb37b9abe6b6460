"""One training: which rows it takes; run it or recall it, keep its model, and say in a fact how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit import explore, interrupts, learners, relevance, triggers
from keepfit.batch import BATCH, LABEL, TIME, digest, spread
from keepfit.facts import UNLEARNT, Cost, Fact, Finding, Snapshot, Trained, TrainingFailed
from keepfit.learnt import learnt, wrong

if TYPE_CHECKING:
    import polars as pl

    from keepfit.challenger import Challenger
    from keepfit.loop import Loop
    from keepfit.protocols import Learner, Result, Task
    from keepfit.registry import Version

REFERENCE_ROWS = 50_000


def taken(
    loop: Loop,
    challenger: Challenger,
    rows: pl.DataFrame,
    now: datetime,
    until: datetime | None,
    since: datetime | None,
    changed: datetime | None,
    unlearnt: Mapping[str, int],
) -> Snapshot:
    """Return which rows a training takes, as its record says."""
    state, times = loop.state, rows.get_column(TIME)
    return Snapshot(
        batch=state.batch,
        as_of=now,
        selection=repr(challenger.select),
        rows=rows.height,
        digest=digest(rows, without=(BATCH,)),
        from_=times[0],
        to=times[-1],
        until=until,
        since=since,
        changed=changed,
        excluded=state.excluded,
        seed=loop.pipeline.seed,
        unlearnt=dict(unlearnt),
    )


def train(loop: Loop, version: Version) -> Fact:
    """Train a version, or recall the same training, and return the fact of how it ended."""
    challenger = loop.turns.challenger(version)
    if challenger is None:
        message = f"the pipeline has no challenger {version.challenger!r} any more"
        return TrainingFailed(version=version.name, reason="gone", message=message, cost=Cost())
    if version.donor is not None and version.donor.missing:
        said = version.donor.missing
        return TrainingFailed(version=version.name, reason="no donor", message=said, cost=Cost())
    learner = challenger.learner or loop.pipeline.learner
    found = fitted(loop, version.key, lambda: loop.turns.task(version, learner))
    if not isinstance(found, dict):
        said = found.message
        if version.donor is not None and said.startswith("TrainingError: "):
            # Learners are given the donor as they are given a champion, and call it so.
            said = said.replace("the champion", "the donor").replace("a champion", "a donor")
        return TrainingFailed(
            version=version.name, reason=found.reason or "raised", message=said, cost=found.cost
        )
    return _ended(loop, version, learner, found)


def fitted(loop: Loop, key: str, make: Callable[[], Task]) -> dict[str, Any] | Result:
    """Return the record of a training that is run, or recalled by its key; without a model how it ended."""
    known = loop.memory.artifacts.recall(key)
    if known is not None and loop.memory.artifacts.has(known["artifact"]):
        return known
    task = make()
    with interrupts.free():
        outcome = loop.pipeline.executor.run(task)
    if outcome.model is None:
        return outcome
    spent = outcome.cost
    known = {
        "artifact": loop.scorer.keep(outcome.model),
        "cost": [spent.cpu_seconds, spent.wall_seconds, spent.peak_bytes],
        "packages": outcome.packages,
        "findings": msgspec.to_builtins(outcome.findings),
    }
    loop.memory.artifacts.remember(key, known)
    return known


def cost_of(found: dict[str, Any] | Result) -> Cost:
    """Return what a training took, of its record or of how it ended."""
    if not isinstance(found, dict):
        return found.cost
    cpu, wall, peak = found["cost"]
    return Cost(cpu_seconds=cpu, wall_seconds=wall, peak_bytes=int(peak))


def _ended(loop: Loop, version: Version, learner: Learner, known: dict[str, Any]) -> Fact:
    """Return the fact of a training whose model is kept, once it opens again."""
    cost = cost_of(known)
    try:
        model = loop.scorer.load(known["artifact"])
        features = tuple(model.features)
    except Exception as error:  # a model of the user's own may fail in any way it likes
        message = f"the model cannot be opened again: {type(error).__name__}: {error}"
        return TrainingFailed(
            version=version.name, reason="does not load", message=message, cost=cost
        )
    findings = msgspec.convert(known.get("findings", ()), tuple[Finding, ...])
    found = learnt(loop, version, model, all_rows=not findings)
    why = wrong(loop.state, version, found, same=_same(loop, version, known["artifact"]))
    if why:
        return TrainingFailed(version=version.name, reason=UNLEARNT, message=why, cost=cost)
    asked = loop.pipeline.explore
    misfit = None if asked is None else asked.misfit(model.task)
    if misfit is not None:
        return TrainingFailed(
            version=version.name, reason="cannot be explored", message=misfit, cost=cost
        )
    donor = None if version.donor is None else loop.scorer.load(version.donor.artifact)
    return Trained(
        version=version.name,
        artifact=known["artifact"],
        reference=_reference(loop, version, model),
        cost=cost,
        code=learner.fingerprint,
        parameters=learner.parameters,
        packages=known["packages"],
        features=features,
        transferred=learners.transferred(donor, model)
        if donor is not None
        else learners.recalibrated(model),
        learnt=found.share,
        findings=findings,
    )


def _same(loop: Loop, version: Version, artifact: str) -> bool:
    """Return whether a training that is run once more gave the same model as the first time."""
    first = loop.state.versions.get(version.retry_of or "")
    known = None if first is None else loop.memory.artifacts.recall(first.key)
    return known is None or known["artifact"] == artifact


def _reference(loop: Loop, version: Version, model: Any) -> str:
    """Return the artifact that describes a version's training rows; "" where that can wait."""
    if not _small(version) and loop.turns.last_fit.follows(version):
        # Most challengers never get so far as to a last fit, which describes what serves then.
        return ""
    return described(loop, version, model)


def described(loop: Loop, version: Version, model: Any = None) -> str:
    """Return the artifact that describes the rows of a version; "" where its record has it.

    Of a model that was trained elsewhere no rows are known.
    """
    first = version
    while not first.reference and _small(first):
        # A small update knows the rows of the whole line, not its own few alone.
        first = loop.state.versions[first.parent or ""]
    if first.reference or first.origin is not None:
        return "" if first is version else first.reference
    if not loop.pipeline.detectors:
        return ""
    own = model is not None and first is version
    return _described(loop, first, model if own else loop.scorer.model(first))


def _small(version: Version) -> bool:
    return bool(version.parent) and version.update != "all"


def _described(loop: Loop, version: Version, model: Any) -> str:
    """Keep what a version's training rows look like, and return the artifact's digest."""
    from keepfit.drift import Reference

    rows = explore.repeated(loop.turns.rows_of(version), loop.pipeline.explore).drop(LABEL)
    importances = getattr(model, "importances", None)
    reference = Reference.fit(
        rows[spread(rows.height, REFERENCE_ROWS)] if rows.height > REFERENCE_ROWS else rows,
        detectors=loop.pipeline.detectors,
        every=loop.every,
        weights=None if importances is None else importances(),
    )
    if triggers.assessed(loop.pipeline.trigger):
        memory = relevance.RowMemory.fit(rows, reference.profile)
        reference = reference.having(relevance.KEPT, memory.dumps())
    return loop.memory.artifacts.put(reference.dumps())
