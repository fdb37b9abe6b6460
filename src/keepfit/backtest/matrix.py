"""Every model that the policies trained, on every later window: what hindsight is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit import answers, facts, unknown
from keepfit.batch import ID, LABEL
from keepfit.facts import Entry
from keepfit.learners import novel

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

    from keepfit.backtest.stage import Stage, Tell
    from keepfit.lake import Lake
    from keepfit.protocols import Model

MOST_MODELS = 200
"""Models that are asked about the future; of more, all that served and some of the others."""


@dataclass
class Life:
    """What one policy did, as its facts tell: when it trained, what served, how that did."""

    turns: list[int] = field(default_factory=list)
    """The batches after which it decided to train."""

    artifacts: dict[str, str] = field(default_factory=dict)
    """The model of each version."""

    starts: dict[str, int] = field(default_factory=dict)
    """The first batch that each model may serve."""

    cpu: dict[str, float] = field(default_factory=dict)
    promoted: list[str] = field(default_factory=list)
    served: dict[int, str] = field(default_factory=dict)
    """The model that served each scored batch."""

    realised: dict[int, float] = field(default_factory=dict)
    """The metric's value on each batch that has one."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Life:
        """Return a policy's life from its facts, in order."""
        life = cls()
        arrived: list[tuple[datetime, int]] = []
        ready: dict[str, datetime] = {}
        for entry in entries:
            fact = entry.fact
            if isinstance(fact, facts.Arrived):
                arrived.append((entry.at, fact.batch))
            elif isinstance(fact, facts.TrainingStarted):
                ready[fact.version] = fact.ready_at
            else:
                life._take(fact)
        for version, artifact in life.artifacts.items():
            after = (batch for at, batch in arrived if at > ready[version])
            first = next(after, arrived[-1][1] + 1)
            life.starts[artifact] = min(first, life.starts.get(artifact, first))
        return life

    def _take(self, fact: Any) -> None:
        if isinstance(fact, facts.Decided):
            if fact.decision.train:
                self.turns.append(fact.batch)
        elif isinstance(fact, facts.Trained):
            self.artifacts[fact.version] = fact.artifact
            self.cpu[fact.artifact] = fact.cost.cpu_seconds
        elif isinstance(fact, facts.Promoted):
            self.promoted.append(self.artifacts[fact.version])
        elif isinstance(fact, facts.Scored) and fact.value is not None:
            self.served[fact.batch] = self.artifacts[fact.version]
            self.realised[fact.batch] = fact.value


@dataclass(frozen=True)
class Matrix:
    """Losses of models on windows, less is better, and from which window each may serve."""

    batches: NDArray[np.int64]
    """The batch of each window."""

    artifacts: tuple[str, ...]
    losses: NDArray[np.float64]
    starts: NDArray[np.intp]
    cpu: NDArray[np.float64]

    def window(self, batch: int) -> int:
        """Return the first window from a batch on."""
        return int(np.searchsorted(self.batches, batch))

    def place(self, artifact: str) -> int:
        """Return the row of a model."""
        return self.artifacts.index(artifact)


@dataclass(frozen=True, slots=True)
class Ask:
    """The task of asking a model about batches: the metric on each, NaN where it is not defined."""

    artifact: str
    batches: tuple[int, ...]

    def do(self, stage: Stage, tell: Tell | None = None) -> list[float]:
        """Return the metric's value for each batch."""
        known: _Known = stage.kept.get("known") or _Known(stage)
        stage.kept["known"] = known
        model = stage.scorer.load(self.artifact)
        rows, labels, cuts = known.rows(self.batches)
        scores = answers.of(model, rows).scores
        found = unknown.placed(model, labels, scores, None, ())
        if len(found.labels) < rows.height:
            return _of_more(stage, model, rows, scores, cuts)
        metric = stage.scorer.metric(model)
        windows = zip(cuts[:-1], cuts[1:], strict=True)
        return [metric.value(found.labels[a:b], found.scores[a:b]) for a, b in windows]


def _of_more(
    stage: Stage, model: Model, rows: pl.DataFrame, scores: NDArray[np.float64], cuts: list[int]
) -> list[float]:
    """Return the metric's value for each window, where some labels are none that a model knows."""
    labels = rows.get_column(LABEL)
    strange = novel.counted(labels, model.classes).keys()
    classes = strange - novel.learnable(rows, model.classes).unlearnt.keys()
    values = []
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        metric, found = unknown.answered(
            stage.scorer, model, labels[a:b], scores[a:b], None, classes
        )
        values.append(metric.value(found.labels, found.scores))
    return values


class _Known:
    """The whole history, batch by batch, with the labels that became known in the end.

    Models are asked about all batches from some time on: the rows of the longest such question are
    put together, and the others are a part of them.
    """

    def __init__(self, stage: Stage) -> None:
        self._lake = _landed(stage)
        self._end = stage.plan.end + stage.plan.every
        self._known: tuple[tuple[int, ...], pl.DataFrame, list[int]] | None = None

    def rows(self, batches: Sequence[int]) -> tuple[pl.DataFrame, pl.Series, list[int]]:
        """Return the labelled rows of batches, their labels, and where each batch begins."""
        asked = tuple(batches)
        if self._known is None or self._known[0][-len(asked) :] != asked:
            self._known = asked, *self._together(asked)
        _, rows, cuts = self._known
        cuts = cuts[-len(asked) - 1 :]
        part = rows.slice(cuts[0])
        return part, part.get_column(LABEL), [cut - cuts[0] for cut in cuts]

    def _together(self, batches: Sequence[int]) -> tuple[pl.DataFrame, list[int]]:
        import polars as pl

        parts = [self._batch(number) for number in batches]
        return pl.concat(parts), np.cumsum([0, *(part.height for part in parts)]).tolist()

    def _batch(self, number: int) -> pl.DataFrame:
        labels = self._lake.scored(number, self._end).select(ID, LABEL).drop_nulls(LABEL)
        rows = self._lake.batch(number)
        return rows.join(labels, on=ID, how="inner", maintain_order="left")


def _landed(stage: Stage) -> Lake:
    """Return a lake in which every batch has landed under the number it has for the policies."""
    lake, source, plan = stage.replay.lake(), stage.replay.source(), stage.plan
    cursor, number = None, 0
    moments = plan.moments()
    while moments[-1] < plan.end:
        moments.append(moments[-1] + plan.every)
    for moment in moments:
        batch = source.read(cursor, now=moment, every=plan.every)
        if not batch.empty:
            number += 1
            lake.land(batch, number)
            cursor = batch.cursor
    return lake


def asked(lives: Sequence[Life], always: Life) -> tuple[list[Ask], str]:
    """Return which models to ask about which batches, and what to say where some are left out.

    The windows are those in which every policy has a value. All models that served are asked;
    of the others those that ``always`` trained first, spread over time when they are many.
    """
    batches = windows(lives)
    served = {artifact for life in lives for artifact in life.promoted}
    trained = dict.fromkeys(artifact for life in (always, *lives) for artifact in life.starts)
    others = [artifact for artifact in trained if artifact not in served]
    room = max(0, MOST_MODELS - len(served))
    thinned = len(others) > room
    if thinned:
        others = [others[i] for i in np.linspace(0, len(others) - 1, room).round().astype(int)]
    starts = _starts(lives)
    tasks = []
    for artifact in trained:
        later = tuple(batch for batch in batches if batch >= starts[artifact])
        if later and (artifact in served or artifact in others):
            tasks.append(Ask(artifact, later))
    note = f"the best in hindsight is that of {len(tasks)} of {len(trained)} models"
    return tasks, note if thinned else ""


def windows(lives: Sequence[Life]) -> list[int]:
    """Return the batches in which every policy has a value, in order."""
    common = set.intersection(*(set(life.realised) for life in lives))
    return sorted(common)


def filled(
    lives: Sequence[Life],
    tasks: Sequence[Ask],
    answers: Sequence[Sequence[float]],
    *,
    greater_is_better: bool,
) -> Matrix:
    """Return the matrix of what models answered; where one served, what was realised counts."""
    batches = np.array(windows(lives), dtype=np.int64)
    place = {task.artifact: i for i, task in enumerate(tasks)}
    losses = np.full((len(tasks), batches.size), np.nan)
    for row, (task, values) in enumerate(zip(tasks, answers, strict=True)):
        losses[row, batches.size - len(task.batches) :] = values
    for life in lives:
        for window, batch in enumerate(batches.tolist()):
            losses[place[life.served[batch]], window] = life.realised[batch]
    starts = _starts(lives)
    cpu: dict[str, float] = {}
    for life in lives:
        cpu |= life.cpu
    return Matrix(
        batches=batches,
        artifacts=tuple(task.artifact for task in tasks),
        losses=-losses if greater_is_better else losses,
        starts=np.searchsorted(batches, [starts[task.artifact] for task in tasks]),
        cpu=np.array([cpu[task.artifact] for task in tasks]),
    )


def _starts(lives: Sequence[Life]) -> dict[str, int]:
    starts: dict[str, int] = {}
    for life in lives:
        for artifact, first in life.starts.items():
            starts[artifact] = min(first, starts.get(artifact, first))
    return starts
