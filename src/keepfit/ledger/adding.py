"""Adding facts to the ledger's table: one append at once, or many in one transaction."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from keepfit.errors import LedgerConflict
from keepfit.ledger import statements

if TYPE_CHECKING:
    from keepfit.ledger.connection import Connection
    from keepfit.ledger.store import Store

Rows = list[dict[str, Any]]


def last(connection: Connection, pipeline: str) -> int:
    """Return the number of a pipeline's last fact, zero when it has none."""
    return connection.execute(statements.LAST_SEQ, {"pipeline": pipeline})[0][0] or 0


def add(connection: Connection, pipeline: str, rows: Rows, expected_seq: int | None) -> int:
    """Add rows in a transaction that is open, and return the number of the last one.

    Raises
    ------
    LedgerConflict
        The last number is not the expected one.
    """
    before = last(connection, pipeline)
    _expect(pipeline, before, expected_seq)
    if rows:
        numbered = [{**row, "seq": seq} for seq, row in enumerate(rows, start=before + 1)]
        connection.execute(statements.INSERT_FACTS, numbered)
    return before + len(rows)


MOST = 512
"""Facts of a pipeline that wait at most."""


class Waiting:
    """Facts that were appended and are not in the database yet.

    They get the numbers that they would get there, which holds where nobody else appends: where
    somebody does, the conflict shows when they are written. So the last number is known as well,
    once it was read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, tuple[int, Rows]] = {}

    def add(self, pipeline: str, rows: Rows, expected_seq: int | None) -> int:
        """Let rows wait, and return the number of the last one.

        Raises
        ------
        LedgerConflict
            The last number is not the expected one.
        """
        if pipeline not in self._rows:
            self._rows[pipeline] = self._store.read(lambda c: last(c, pipeline)), []
        first, waiting = self._rows[pipeline]
        _expect(pipeline, first + len(waiting), expected_seq)
        waiting.extend(rows)
        if len(waiting) >= MOST:
            self._write(pipeline)
        return first + len(waiting)

    def last(self, pipeline: str) -> int | None:
        """Return the number of a pipeline's last fact, None where it was not read yet."""
        if pipeline not in self._rows:
            return None
        first, waiting = self._rows[pipeline]
        return first + len(waiting)

    def write(self) -> None:
        """Write what waits, in one transaction for each pipeline.

        Raises
        ------
        LedgerConflict
            Another writer appended meanwhile.
        """
        for pipeline in list(self._rows):
            self._write(pipeline)

    def _write(self, pipeline: str) -> None:
        # Forgotten before: what somebody else came before is not written later.
        first, rows = self._rows.pop(pipeline)
        if rows:
            self._store.write(partial(_added, pipeline, rows, first), lock=pipeline)
        self._rows[pipeline] = first + len(rows), []


def _added(pipeline: str, rows: Rows, expected_seq: int, connection: Connection) -> int:
    return add(connection, pipeline, rows, expected_seq)


def _expect(pipeline: str, at: int, expected_seq: int | None) -> None:
    if expected_seq is not None and expected_seq != at:
        raise LedgerConflict(
            f"pipeline {pipeline!r} is at fact {at}, expected {expected_seq}: "
            "another writer appended first",
            hint="read the new facts, fold them and decide again",
        )
