"""Training a version again from its record."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from keepfit import answers
from keepfit.batch import LABEL, digest
from keepfit.errors import ConfigError, TrainingError, VersionUnknown
from keepfit.results import Reproduced
from keepfit.results.diff import Difference

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop
    from keepfit.protocols import Learner, Result
    from keepfit.registry import Version

COMPARED = 20_000
"""Rows that both models answer at most, the newest ones of the training."""


def reproduce(loop: Loop, name: str) -> Reproduced:
    """Train a version again from its record, and compare what both answer.

    The rows are read again as they were known then, the recipe is taken from the pipeline's
    file, seed and start from the record. Nothing is written.

    Raises
    ------
    VersionUnknown
        No version has this name, or it never became a model.
    ConfigError
        The recipe it was trained with is no longer in the pipeline.
    TrainingError
        The training ends without a model.
    """
    version = loop.refold().version(name)
    if not version.artifact:
        raise VersionUnknown(
            f"expected a version with a model, got {version.name}, which is {version.state}",
            hint=f"`keepfit why {version.name}` says what became of it",
        )
    challenger = loop.turns.challenger(version)
    if challenger is None:
        known = ", ".join(repr(one.name) for one in loop.pipeline.challengers)
        raise ConfigError(
            f"expected the recipe {version.challenger!r} of {version.name} in the pipeline, got {known}",
            hint="take the file as it was then, or add the challenger again",
        )
    learner = challenger.learner or loop.pipeline.learner
    rows = loop.turns.rows_of(version)
    result = loop.pipeline.executor.run(loop.turns.task(version, learner))
    if result.model is None:
        raise TrainingError(f"{version.name} could not be trained again: {result.message}")
    return _compared(loop, version, learner, rows, result)


def _compared(
    loop: Loop, version: Version, learner: Learner, rows: pl.DataFrame, result: Result
) -> Reproduced:
    from keepfit.learners import loads

    assert result.model is not None
    differences = list(_differences(version, learner, rows, result))
    # By its digest, which the record has: the same model shows even where the one kept is gone.
    if hashlib.sha256(result.model).hexdigest() == version.artifact:
        return Reproduced(
            pipeline=loop.pipeline.name,
            version=version.name,
            rows=rows.height,
            same=True,
            compared=0,
            furthest=0.0,
            changed=0.0,
            differences=tuple(differences),
            before=version.cost,
            now=result.cost,
        )
    old, new = loop.scorer.model(version), loads(result.model)
    # As on rows with infinite values, which neither learnt nor can answer.
    asked, before = answers.answered(old, rows.drop(LABEL).tail(COMPARED))
    now = answers.of(new, asked).scores
    # One that needs a column which is left out by now answers no row at all.
    alike = asked.height > 0 and before.shape == now.shape and old.classes == new.classes
    return Reproduced(
        pipeline=loop.pipeline.name,
        version=version.name,
        rows=rows.height,
        same=False,
        compared=asked.height,
        furthest=float(np.abs(before - now).max()) if alike else None,
        changed=_changed(before, now, old.task) if alike else None,
        differences=tuple(differences),
        before=version.cost,
        now=result.cost,
    )


def _changed(before: np.ndarray, now: np.ndarray, task: str) -> float:
    """Return the share of rows that are answered otherwise: another class, or another number."""
    if task == "regression":
        return float((before != now).mean())
    said = [
        scores >= 0.5 if scores.ndim == 1 else scores.argmax(axis=1) for scores in (before, now)
    ]
    return float((said[0] != said[1]).mean())


def _differences(version: Version, learner: Learner, rows: pl.DataFrame, result: Result) -> Any:
    """Yield what is not as it was: rows, code, parameters and packages."""
    snapshot = version.snapshot
    for name in version.features:
        if name not in rows.columns:
            yield Difference("data", f"column {name}", "there", None)
    if rows.height != snapshot.rows:
        yield Difference("data", "rows", snapshot.rows, rows.height)
    elif digest(rows.drop("_batch")) != snapshot.digest:
        yield Difference("data", "digest", snapshot.digest[:12], digest(rows.drop("_batch"))[:12])
    if learner.fingerprint != version.code:
        yield Difference("code", "fingerprint", version.code[:12], learner.fingerprint[:12])
    for part, old, new in (
        ("parameters", version.parameters, learner.parameters),
        ("packages", version.packages, result.packages),
    ):
        # Of a package that the record does not name nothing is known.
        names = old if part == "packages" else {*old, *new}
        for name in sorted(names):
            if old.get(name) != new.get(name):
                yield Difference(part, name, old.get(name), new.get(name))
