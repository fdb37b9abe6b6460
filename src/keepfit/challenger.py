"""Challengers: recipes for a model that may replace the champion."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit import learners, selection
from keepfit.batch import ID
from keepfit.donors import Named
from keepfit.errors import ConfigError, nearest
from keepfit.protocols import Learner, Selection
from keepfit.registry.versions import BRIEF

if TYPE_CHECKING:
    import polars as pl

STARTS = ("scratch", "champion", "pretrained")
CHEAP = ("leaves",)
"""Updates that cost little beside a training, and may go on without end."""

WEIGHTS = {"calibration": 0.001, "leaves": 0.05, "head": 0.2}
"""What an update costs beside a training of everything, to order challengers by cost."""

UPDATES = ("all", "leaves", "head", "calibration")


class Challenger:
    """A recipe: which rows, from which start, how much of it may change, with which learner.

    Parameters
    ----------
    select
        Which rows to train on; all labelled rows when not given, and for a calibration those
        that are new since the champion was trained.
    start
        ``"scratch"``, ``"champion"`` (warm start; from scratch now and then, where the champion
        would grow beyond five times an ensemble's own size, or has no place for a new class that no
        other recipe learns), ``"pretrained"``, or another pipeline's
        version, as ``"flights-nyc@champion"`` or ``"flights-nyc@v3"`` (transfer): the columns
        that both have are matched, and the facts say what was taken over and what is new.
    update
        ``"all"``; ``"leaves"``: the trees of a model stay, their leaves learn;
        ``"head"``: the last layer of a network learns; or ``"calibration"``: the champion stays
        as it is and a map of its scores is learnt (`learners.Calibration`), whatever the learner.
    learner
        An estimator of its own; the pipeline's when not given.
    every
        In which turns it runs: 1 in all of them, 5 in every fifth at most. A dear recipe may
        wait while a cheap one keeps the model current. None: when its rows and its record say
        that it pays.
    name
        How facts call it; made from the parts when not given.
    home
        Where the pipeline that a transfer starts from is kept; beside this one when not given.

    Raises
    ------
    ConfigError
        The start or the update is unknown, leaves are updated from scratch, or ``every`` is
        no whole number from 1.

    Examples
    --------
    >>> from keepfit import Challenger, selection
    >>> Challenger(select=selection.Sliding("90d"))
    Challenger(select=Sliding("90d"), start='scratch', update='all')
    """

    def __init__(
        self,
        select: Selection | None = None,
        start: str = "scratch",
        update: str = "all",
        learner: Any = None,
        every: int | None = 1,
        name: str | None = None,
        home: str | Path | None = None,
    ) -> None:
        self.donor = Named.parse(start, home) if "@" in str(start) else None
        if home is not None and self.donor is None:
            raise ConfigError(
                f"expected home= beside the name of a donor, got start={start!r}",
                hint='write Challenger(start="flights-nyc@champion", home=…)',
            )
        if update == "calibration":
            # There is no other model whose scores could be mapped.
            start = "champion" if start == "scratch" else start
            select = selection.SinceLast() if select is None else select
            learner = learners.Calibration() if learner is None else learner
        start = "transfer" if self.donor is not None else start
        _one_of("start", start, (*STARTS, "transfer") if self.donor is not None else STARTS)
        _one_of("update", update, UPDATES)
        if select is not None and not isinstance(select, Selection):
            raise ConfigError(
                f"expected a selection, got {select!r}",
                hint='write Challenger(select=selection.Sliding("90d")), or leave select out for all rows',
            )
        if start == "scratch" and update != "all":
            raise ConfigError(
                f"expected update='all' with start='scratch', got update={update!r}",
                hint=f'start="champion" lets the champion\'s {update} learn',
            )
        self.select: Selection = selection.Expanding() if select is None else select
        self._one_step = repr(self.select) == BRIEF
        if every is not None and (
            isinstance(every, bool) or not isinstance(every, int) or every < 1
        ):
            raise ConfigError(
                f"expected every= to be a whole number from 1, or None, got {every!r}"
            )
        self.start = start
        self.update = update
        self.every = every
        self.learner: Learner | None = None if learner is None else learners.resolve(learner)
        if self.learner is not None:
            learners.validate(self.learner, start, update)
        self.name = name or self._described()

    def __repr__(self) -> str:
        own = f", learner={self.learner.name}" if self.learner is not None else ""
        own += f", every={self.every}" if self.every != 1 else ""
        return (
            f"Challenger(select={self.select!r}, start={self._from!r}, update={self.update!r}{own})"
        )

    @property
    def updates(self) -> bool:
        """Whether it lets the champion itself learn, and not only a map of its scores."""
        return self.start == "champion" and self.update != "calibration"

    @property
    def way(self) -> tuple[str, str, str]:
        """How it trains, whatever the rows: from which start, what of it learns, the learner's own."""
        own = "" if self.learner is None else self.learner.fingerprint
        return str(self._from), self.update, own

    @property
    def whole(self) -> Selection | None:
        """What of all rows it would choose until what serves has fallen, where it waits for that."""
        if isinstance(self.select, selection.SinceChange):
            return selection.Expanding(at_most=self.select.at_most)
        return None

    @property
    def brief(self) -> bool:
        """Whether it learns the rows of one step alone: of use, if at all, for the step after it."""
        return self.start == "scratch" and self._one_step

    def afresh(self) -> Challenger:
        """Return the recipe as it runs from scratch, by the same name."""
        if self.start == "scratch":
            return self
        found = copy.copy(self)
        found.start, found.update, found.donor = "scratch", "all", None
        return found

    def cost(self, rows: int) -> float:
        """Return what it costs on some rows, beside others; the unit is a row of a full training."""
        return rows * WEIGHTS.get(self.update, 0.5 if self.start == "champion" else 1.0)

    @property
    def _from(self) -> str:
        """Where it starts, as the user wrote it."""
        return self.start if self.donor is None else str(self.donor)

    def _described(self) -> str:
        parts = [f"{self.select!r}".removesuffix("()")]
        if self.start != "scratch":
            parts.append(f"from {self._from}")
        if self.update != "all":
            parts.append(self.update)
        if self.learner is not None and self.learner.name != "Calibration()":
            parts.append(self.learner.name)
        return ", ".join(parts)


def default(learner: Learner) -> list[Challenger]:
    """Return the recipes of a pipeline that names none, of which evidence picks.

    Five windows from scratch, the middle one first, of which one begins where what serves last
    fell; and, for a learner that has one, the cheap way to let the champion learn what is new:
    its leaves, or the new rows alone where that follows them.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> [one.name for one in default(learners.resolve(LogisticRegression()))]
    ['Sliding(20)', 'Sliding(5)', 'SinceChange', 'Sliding(1)', 'Expanding']
    """
    windows = (
        selection.Sliding(20),
        selection.Sliding(5),
        selection.SinceChange(),
        selection.Sliding(1),
        selection.Expanding(),
    )
    found = [Challenger(select=window, every=None) for window in windows]
    for update in (*CHEAP, *(["all"] if learners.incremental(learner) else [])):
        try:
            learners.validate(learner, "champion", update)
        except ConfigError:
            continue
        since = selection.SinceLast()
        return [*found, Challenger(select=since, start="champion", update=update, every=None)]
    return found


def distinct(found: Iterable[tuple[Challenger, pl.DataFrame]]) -> dict[str, str]:
    """Return by name of each recipe with its rows the first that is the same training, by name.

    While a window reaches the first row, or as far as what serves last fell, two are one.
    """
    firsts: list[tuple[Challenger, pl.Series]] = []
    same: dict[str, str] = {}
    for one, rows in found:
        ids = rows.get_column(ID)
        alike = (other for other, theirs in firsts if other.way == one.way and theirs.equals(ids))
        same[one.name] = next(alike, one).name
        if same[one.name] == one.name:
            firsts.append((one, ids))
    return same


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = nearest(str(value), known)
        raise ConfigError(
            f"expected {what} to be one of {', '.join(map(repr, known))}, got {value!r}",
            hint=f"the nearest is {near!r}" if near else None,
        )
