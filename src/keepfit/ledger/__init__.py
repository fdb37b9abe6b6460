"""The ledger: an append-only record of facts, and who may add to it."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from keepfit.clock import utc
from keepfit.errors import ConfigError, KeepfitError, nearest
from keepfit.facts import KINDS, AnyFact, Entry, Fact, decode, encode
from keepfit.facts.depth import DEEPEST, shallow
from keepfit.ledger import statements
from keepfit.ledger.adding import Waiting, add, last
from keepfit.ledger.connection import Connection, moment
from keepfit.ledger.lease import Lease
from keepfit.ledger.reading import Facts
from keepfit.ledger.store import Store

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Facts", "Lease", "Ledger"]

T = TypeVar("T")


class Ledger:
    """An append-only record of facts per pipeline, numbered from one without gaps.

    State is a fold over the facts and never a second truth. Nothing is opened or created
    before the first append, and reading a ledger that does not exist finds nothing. A
    ledger may be used from many threads and many processes.

    Parameters
    ----------
    url_or_path
        A folder (``".keepfit"`` holds ``ledger.db``), a ``.db`` file, ``":memory:"``, a
        ``sqlite:///`` or a ``postgresql://`` URL.
    durable
        Whether an append survives a loss of power. False is for backtests: a crash of the
        process loses nothing, one of the machine may.

    Raises
    ------
    ConfigError
        The text names no place that a ledger can be.

    Examples
    --------
    >>> from keepfit.clock import utc
    >>> from keepfit.facts import Signalled
    >>> with Ledger(":memory:") as ledger:
    ...     ledger.append("churn", [Signalled(event="new price list")], at=utc("2024-03-09"))
    ...     ledger.facts("churn")[0].fact.event
    1
    'new price list'
    """

    def __init__(
        self, url_or_path: str | os.PathLike[str] = ".keepfit", *, durable: bool = True
    ) -> None:
        self._store = Store(url_or_path, durable=durable)
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._own = threading.local()

    def __repr__(self) -> str:
        """Return where the ledger is."""
        return f"Ledger({str(self._store)!r})"

    def append(
        self,
        pipeline: str,
        facts: Sequence[Fact],
        *,
        at: datetime | Sequence[datetime],
        expected_seq: int | None = None,
        lease: Lease | None = None,
    ) -> int:
        """Add facts in one transaction and return the number of the last one.

        All of them are added or none. What was observed takes the next number; what was
        decided names the number it was decided on, and is folded and decided again when
        another writer came first.

        Parameters
        ----------
        pipeline
            Whose facts they are.
        facts
            What happened, in order.
        at
            When: one moment for all, or one for each.
        expected_seq
            The number of the last fact that a decision took into account.
        lease
            The right to run the pipeline; checked in the same transaction.

        Raises
        ------
        ConfigError
            A fact or a moment is not one that the ledger can give back.
        LedgerConflict
            The last number is not the expected one.
        LeaseLost
            Someone else runs the pipeline now.
        KeepfitError
            The database cannot be written.
        """
        return self._add(pipeline, facts, at, expected_seq, lease)[0]

    def appended(
        self,
        pipeline: str,
        facts: Sequence[Fact],
        *,
        at: datetime | Sequence[datetime],
        expected_seq: int | None = None,
        lease: Lease | None = None,
    ) -> list[Entry]:
        """Add facts as `append` does, and return them as whoever reads the ledger finds them.

        A number that is not finite is none there. Who folds what this returns knows what another
        process will know.
        """
        last, kept = self._add(pipeline, facts, at, expected_seq, lease)
        first = last - len(kept) + 1
        return [
            Entry(pipeline=pipeline, seq=seq, at=moment, fact=fact)
            for seq, (moment, fact) in enumerate(kept, first)
        ]

    def _add(
        self,
        pipeline: str,
        facts: Sequence[Fact],
        at: datetime | Sequence[datetime],
        expected_seq: int | None,
        lease: Lease | None,
    ) -> tuple[int, list[tuple[datetime, AnyFact]]]:
        """Add facts; return the number of the last one, and when what is now in the ledger was."""
        if not pipeline:
            raise ConfigError("expected the name of a pipeline, got ''")
        if lease is not None and lease.pipeline != pipeline:
            raise ConfigError(f"expected a lease on {pipeline!r}, got one on {lease.pipeline!r}")
        moments = _moments(at, len(facts))
        rows, kept = [], []
        for fact, when in zip(facts, moments, strict=True):
            row, back = _row(pipeline, fact, when)
            rows.append(row)
            kept.append((when, back))

        waiting = self._waiting
        if waiting is not None and lease is None:
            return waiting.add(pipeline, rows, expected_seq), kept

        def work(connection: Connection) -> int:
            if lease is not None:
                lease.guard(connection)
            return add(connection, pipeline, rows, expected_seq)

        return self._store.write(work, lock=pipeline), kept

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Return a context whose appends are written many at once, the last of them at its end.

        For a ledger that nobody else appends to. It counts for this thread alone, whose own
        reading finds what waits: it is written before.

        Raises
        ------
        LedgerConflict
            Another writer appended meanwhile.
        KeepfitError
            The database cannot be read or written.
        """
        waiting = self._own.waiting = Waiting(self._store)
        try:
            yield
        finally:
            self._own.waiting = None
            waiting.write()

    @property
    def _waiting(self) -> Waiting | None:
        return getattr(self._own, "waiting", None)

    def _read(self, work: Callable[[Connection], T], nothing: Any) -> T:
        """Return what some reading finds, once nothing waits any more."""
        if self._waiting is not None:
            self._waiting.write()
        found: T = self._store.read(work) if self._store.exists else nothing
        return found

    def facts(
        self,
        pipeline: str,
        *,
        after: int = 0,
        kind: str | Iterable[str] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Facts:
        """Return facts of a pipeline in the order of their numbers.

        Parameters
        ----------
        pipeline
            Whose facts.
        after
            Only those with a larger number.
        kind
            Only those of one kind, or of several.
        since
            Only those of this moment or later.
        limit
            At most so many.
        newest_first
            Whether the newest comes first.

        Raises
        ------
        ConfigError
            There is no such kind.
        KeepfitError
            The database or one of its facts cannot be read.
        """
        kinds = _kinds(kind)
        known = None if self._waiting is None else self._waiting.last(pipeline)
        nothing_new = known is not None and after >= known
        if nothing_new or kinds == []:
            return Facts(pipeline, (), kinds or ())
        values: dict[str, Any] = {"pipeline": pipeline, "after": after}
        for number, name in enumerate(kinds or ()):
            values[f"kind_{number}"] = name
        if since is not None:
            values["since"] = utc(since)
        if limit is not None:
            values["limit"] = limit

        statement = statements.some_facts(
            kinds=len(kinds or ()),
            since=since is not None,
            limit=limit is not None,
            newest_first=newest_first,
        )
        rows = self._read(lambda connection: connection.execute(statement, values), [])
        return Facts(pipeline, (_entry(pipeline, *row) for row in rows), kinds or ())

    def seq(self, pipeline: str) -> int:
        """Return the number of a pipeline's last fact, zero when it has none.

        Raises
        ------
        KeepfitError
            The database cannot be read.
        """
        return self._read(lambda c: last(c, pipeline), 0)

    def pipelines(self) -> list[str]:
        """Return the names of the pipelines that have facts, sorted.

        Raises
        ------
        KeepfitError
            The database cannot be read.
        """

        found = self._read(lambda connection: connection.execute(statements.ALL_PIPELINES), [])
        return sorted(pipeline for (pipeline,) in found)

    def lease(self, pipeline: str, *, seconds: float = 30, holder: str | None = None) -> Lease:
        """Take the right to run a pipeline; use it with ``with``.

        It is held from here on, renewed in the background, and given back at the end of
        ``with`` or by ``release()``. When a holder on this machine has died, it is taken
        over at once; from a holder elsewhere, when its time has run out.

        Parameters
        ----------
        pipeline
            The pipeline to run.
        seconds
            How long it lasts without being renewed.
        holder
            What others are told of who holds it; by default process and machine.

        Raises
        ------
        ConfigError
            The length is not more than zero seconds.
        LeaseLost
            Another process, or another thread of this one, holds it.
        """
        lease = Lease(self._store, pipeline, seconds=seconds, holder=holder)
        self._leases.add(lease)
        return lease

    def fold(self, pipeline: str, name: str) -> tuple[int, bytes] | None:
        """Return a cached fold and the number of the last fact in it, or None.

        Raises
        ------
        KeepfitError
            The database cannot be read.
        """

        key = {"pipeline": pipeline, "name": name}
        found = self._read(lambda connection: connection.execute(statements.ONE_FOLD, key), [])
        return (found[0][0], bytes(found[0][1])) if found else None

    def save_fold(self, pipeline: str, name: str, seq: int, body: bytes) -> None:
        """Cache a fold over the facts up to a number; one that is older is not kept.

        Raises
        ------
        KeepfitError
            The database cannot be written.
        """

        def work(connection: Connection) -> None:
            key = {"pipeline": pipeline, "name": name}
            values = {**key, "seq": seq, "body": body}
            saved = connection.execute(statements.ONE_FOLD, key)
            if not saved:
                connection.execute(statements.INSERT_FOLD, values)
            elif saved[0][0] <= seq:
                connection.execute(statements.UPDATE_FOLD, values)

        self._store.write(work, lock=pipeline)

    def check(self) -> list[str]:
        """Return what is wrong with the ledger, one sentence each; nothing when all is well.

        Looks at the file's structure, at gaps in the numbers and at every fact's body, so
        it reads the whole ledger.
        """
        problems: list[str] = []
        for look in (_damage, _disorder):
            try:
                problems += self._read(look, [])
            except KeepfitError as error:
                problems.append(error.message)
        return list(dict.fromkeys(problems))

    def close(self) -> None:
        """Give back what is held and close the database; a ledger in memory is gone."""
        for lease in list(self._leases):
            lease.release()
        self._store.close()

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the ledger."""
        self.close()


def _moments(at: datetime | Sequence[datetime], count: int) -> list[datetime]:
    if isinstance(at, datetime):
        return [utc(at)] * count
    if len(at) != count:
        raise ConfigError(f"expected one moment per fact ({count}), got {len(at)}")
    return [utc(moment) for moment in at]


def _row(pipeline: str, fact: Fact, at: datetime) -> tuple[dict[str, Any], AnyFact]:
    """Return what is written of a fact, and the fact that is read back."""
    if KINDS.get(type(fact).__name__) is not type(fact):
        raise ConfigError(f"expected a fact, got {fact!r}", hint=f"one of {', '.join(KINDS)}")
    try:
        body = encode(fact)
        back = decode(body)  # what could not be would make the whole pipeline unreadable
        text = body.decode()
        if _borne(text) != text:
            raise ValueError(f"it is nested deeper than {DEEPEST} lists and dictionaries")
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{fact.kind} cannot be kept in the ledger: {error}",
            hint="use numbers that are finite, text, true, false, and a few lists and dictionaries of these",
        ) from error
    return {"pipeline": pipeline, "at": at, "kind": fact.kind, "body": text}, back


def _entry(pipeline: str, seq: int, at: Any, body: str) -> Entry:
    try:
        return Entry(pipeline=pipeline, seq=seq, at=moment(at), fact=decode(_borne(body)))
    except (msgspec.MsgspecError, ValueError) as error:
        raise KeepfitError(
            f"fact {seq} of pipeline {pipeline!r} cannot be read: {error}",
            hint="`keepfit doctor` lists what is damaged; if a newer keepfit wrote it, upgrade",
        ) from error


def _borne(body: str) -> str:
    """Return a fact's body as deep as whoever reads it can follow: the only free data is an event's.

    An older version took in events of any depth, and what has been added is never taken away.
    """
    return shallow(body, DEEPEST + _WRAPPED) if body.startswith(_EVENT) else body


_EVENT = '{"kind":"Signalled"'
_WRAPPED = 1
"""The fact itself, around the event, whose attributes are the fact's data."""


def _kinds(kind: str | Iterable[str] | None) -> list[str] | None:
    if kind is None:
        return None
    kinds = [kind] if isinstance(kind, str) else list(kind)
    for name in kinds:
        if name not in KINDS:
            near = nearest(name, KINDS)
            hint = f"did you mean {near!r}?" if near else f"one of {', '.join(KINDS)}"
            raise ConfigError(f"expected a kind of fact, got {name!r}", hint=hint)
    return kinds


def _damage(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong with the structure of its file."""
    if connection.kind != "sqlite":
        return []
    found = connection.execute("PRAGMA integrity_check")
    return [f"SQLite: {line}" for (line,) in found if line != "ok"]


def _disorder(connection: Connection) -> list[str]:
    """Return the gaps in the numbers and the facts that cannot be read."""
    problems = []
    last: dict[str, int] = {}
    for pipeline, seq, kind, body in connection.execute(statements.EVERY_FACT):
        before = last.get(pipeline, 0)
        if seq != before + 1:
            problems.append(f"{pipeline}: facts {before + 1} to {seq - 1} are missing")
        last[pipeline] = seq
        try:
            fact = decode(_borne(body))
        except (msgspec.MsgspecError, ValueError) as error:
            problems.append(f"{pipeline}: fact {seq} cannot be read: {error}")
            continue
        if fact.kind != kind:
            problems.append(f"{pipeline}: fact {seq} is {fact.kind}, but filed as {kind}")
    return problems
