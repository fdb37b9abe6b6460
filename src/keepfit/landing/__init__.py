"""What the server took becomes rows and labels: the journal beside the pipeline's own source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.batch import ID, SCORE, VERSION, Batch, Roles
from keepfit.batch import LABEL as LABEL_COLUMN
from keepfit.facts import Finding
from keepfit.journal import ANSWER, LABEL, PASSAGE, ROW, Journal, Kept, journal_of
from keepfit.scoring import Scorer

if TYPE_CHECKING:
    import polars as pl

    from keepfit.artifacts import Artifacts
    from keepfit.home import Memory
    from keepfit.lake import Lake
    from keepfit.pipeline import Pipeline
    from keepfit.protocols import Source
    from keepfit.registry import State

MOST = 200_000
"""Entries of one batch at most."""

_SERVED = "served "
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def served(pipeline: Pipeline, memory: Memory) -> dict[str, Any]:
    """Return the source and the scorer of a loop that takes in what a server writes down.

    Rows that come one by one are known by their id: a source without one has no server.
    """
    if pipeline.source.roles.id is None:
        return {}
    path = journal_of(pipeline.home, pipeline.name)
    return {
        "source": Served(pipeline.source, path, memory.lake),
        "scorer": Answered(memory.artifacts, pipeline.metric, path),
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading goes on: in which journal, behind which position, and in the source.

    ``turn`` says that it is the journal's turn, so that neither waits for the other to end.
    """

    identity: str = ""
    position: int = 0
    turn: bool = False
    source: str | None = None

    @classmethod
    def of(cls, cursor: str | None) -> Place:
        r"""Return the place that a cursor stands for; one of the source alone is one too.

        Examples
        --------
        >>> Place.of("served 1f00 17 1\nthe source's")
        Place(identity='1f00', position=17, turn=True, source="the source's")
        >>> Place.of(Place.of("the source's").cursor())
        Place(identity='', position=0, turn=False, source="the source's")
        """
        if cursor is None or not cursor.startswith(_SERVED):
            return cls(source=cursor)
        head, _, rest = cursor.partition("\n")
        _, identity, position, turn = head.split(" ")
        return cls(identity, int(position), turn == "1", rest or None)

    def cursor(self) -> str:
        """Return the cursor that stands for this place."""
        if not self.identity:
            return self.source or ""
        head = f"{_SERVED}{self.identity} {self.position} {int(self.turn)}"
        return f"{head}\n{self.source or ''}"

    def behind(self, identity: str) -> int:
        """Return the position in a journal; another journal is read from its beginning."""
        return self.position if identity == self.identity else 0


class Served:
    """A source, and what its server took, in turns; the past of the source comes first.

    Each entry of the journal is handed out once, in the order it was written: the cursor holds
    the position, and lands with the batch. What was served outranks what the source says of
    the same id later: its row is left out, its label is taken, and where a column differs that
    is a finding. The journal is looked for with every read, and may come to be later.
    """

    def __init__(self, source: Source, path: Path, lake: Lake) -> None:
        self.source = source
        self._path, self._lake = path, lake
        self._journal: Journal | None = None
        self._labels: pl.DataType | None = None

    def __repr__(self) -> str:
        return repr(self.source)

    @property
    def roles(self) -> Roles:
        """Which columns play which part."""
        return self.source.roles

    def history(self) -> Batch:
        """Return all rows and labels of the source at once."""
        return self.source.history()

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return what is unread at a moment, at most one cadence further."""
        place, journal = Place.of(cursor), self._open()
        if journal is None:
            batch = self.source.read(place.source, now=now, every=every)
            return _placed(batch, place) if place.identity else batch
        if place.turn and (found := self._served(journal, place, every, looked=False)):
            return found
        batch = self.source.read(place.source, now=now, every=every)
        if batch.empty:
            return self._served(journal, place, every, looked=True) or _placed(batch, place)
        place = Place(
            journal.identity, place.behind(journal.identity), not batch.backlog, batch.cursor
        )
        waiting = bool(journal.after(place.position, kinds=_LANDING, limit=1))
        return replace(
            self._outranked(batch, journal), cursor=place.cursor(), backlog=batch.backlog or waiting
        )

    def _open(self) -> Journal | None:
        if self._journal is None and self._path.is_file():
            self._journal = Journal(self._path)
        return self._journal

    def _served(
        self, journal: Journal, place: Place, every: timedelta, *, looked: bool
    ) -> Batch | None:
        """Return the next entries as a batch, None when there are none."""
        from keepfit.landing.rows import batch_of, first_sent

        before, known, findings = place.behind(journal.identity), self._known(), list[Finding]()
        while True:
            entries = journal.after(before, kinds=_LANDING, limit=MOST + 1)
            taken = _window(_whole(entries, MOST), every)
            if not taken:
                return None
            after = Place(journal.identity, taken[-1].position, False, place.source)
            since = first_sent(journal, taken, before, self.roles)
            found = batch_of(taken, self.roles, known, after.cursor(), since)
            findings += found.findings
            # Nothing at all would say of which kind ids are in a new lake: it is told with a row.
            if known or found.rows.height or found.labels.height:
                more = len(entries) > len(taken)
                return replace(found, findings=tuple(findings), backlog=not looked or more)
            before = after.position

    def _known(self) -> dict[str, pl.DataType]:
        """Return the columns that the lake holds, and its labels, with their types."""
        import polars as pl

        last = self._lake.last()
        if not last:
            return {}
        if self._labels is None:
            labels = self._lake.scored(last, _EPOCH).schema[LABEL_COLUMN]
            self._labels = None if labels == pl.Null else labels
        kept = dict(self._lake.batch(last).schema)
        return kept if self._labels is None else kept | {LABEL_COLUMN: self._labels}

    def _outranked(self, batch: Batch, journal: Journal) -> Batch:
        """Return a batch of the source without the rows that were served, and how they differ."""
        from keepfit.landing.rows import outranking, skew

        ids = batch.rows.get_column(ID)
        bodies = journal.bodies(ids.to_list()) if journal.last() else ()
        told = outranking(bodies, self.roles)
        if not told:
            return batch
        came = ids.is_in(list(told))
        findings = skew(batch.rows.filter(came), told)
        return replace(batch, rows=batch.rows.filter(~came), findings=(*batch.findings, *findings))


class Answered(Scorer):
    """A scorer that takes what was answered for what was predicted, where a row was served."""

    def __init__(self, artifacts: Artifacts, metric: Any, path: Path) -> None:
        super().__init__(artifacts, metric)
        self._path = path
        self._journal: Journal | None = None

    def predict(self, state: State, number: int, rows: pl.DataFrame) -> pl.DataFrame:
        """Return what each row was answered, or what the version that served then says of it."""
        import polars as pl

        if self._journal is None and self._path.is_file():
            self._journal = Journal(self._path)
        if self._journal is None or rows.is_empty():
            return super().predict(state, number, rows)
        told = dict[Any, tuple[str, Any]]()
        for id_, by, scores in self._journal.answers(rows.get_column(ID).to_list()):
            if by in state.versions:
                told.setdefault(id_, (by, scores))  # of the first row, which is the one kept
        if not told:
            return super().predict(state, number, rows)
        answered = pl.DataFrame(
            {
                ID: pl.Series(list(told), dtype=rows.schema[ID]),
                VERSION: [version for version, _ in told.values()],
                SCORE: [
                    list(scores) if isinstance(scores, tuple) else scores
                    for _, scores in told.values()
                ],
            }
        )
        came = rows.get_column(ID).is_in(list(told))
        if state.rollout is not None:
            # A challenger sees what the server answered too, whoever did.
            version = state.versions[state.rollout.fact.version]
            self.challenged(state.rollout, version, number, rows.filter(came))
        others = rows.filter(~came)
        predicted = super().predict(state, number, others)
        return pl.concat([answered, predicted]) if predicted.height else answered


_LANDING = (ANSWER, ROW, LABEL, PASSAGE)


def _whole(entries: list[Kept], most: int) -> list[Kept]:
    """Return the first entries without those of a request that ends later: it has one moment."""
    end = min(most, len(entries))
    while 0 < end < len(entries) and entries[end - 1].at == entries[end].at:
        end -= 1
    return entries[: end or most]


def _window(entries: list[Kept], every: timedelta) -> list[Kept]:
    """Return the entries of the first cadence, by when they came; cadences count from 1970."""
    if not entries:
        return []
    length = every // _MICROSECOND
    end = (entries[0].at // length + 1) * length
    for place, entry in enumerate(entries):
        if entry.at >= end:
            return entries[:place]
    return entries


def _placed(batch: Batch, place: Place) -> Batch:
    """Return a batch of the source alone, with the place in the journal as it was."""
    source = batch.cursor if not batch.empty else place.source or batch.cursor
    return replace(batch, cursor=replace(place, source=source).cursor())
