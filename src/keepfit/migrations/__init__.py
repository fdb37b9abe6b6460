"""Steps that bring a ledger written by an older keepfit to the tables of this one.

A ledger that is new is created as this version wants it, and one that is current is left
alone, both without importing Alembic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0001"
"""The revision that this version of keepfit reads and writes."""

VERSION_TABLE = "keepfit_version"
"""Where a ledger keeps its revision; a name of its own, because databases are shared."""

VERSIONS = Path(__file__).parent / "versions"
"""The folder of the steps."""


def upgrade(connection: Connection, *, to: str = HEAD) -> None:
    """Bring the tables of a ledger to a revision, inside the transaction that is open.

    Parameters
    ----------
    connection
        A connection with an open transaction; the caller commits.
    to
        The revision to arrive at.

    Raises
    ------
    alembic.util.CommandError
        No step leads to the revision.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(VERSIONS.parent), version_locations=[str(VERSIONS)])
    # What `alembic upgrade` does, without the file env.py in between.
    with EnvironmentContext(
        Config(),
        script,
        fn=lambda current, _: script._upgrade_revs(to, current),
        destination_rev=to,
    ) as environment:
        environment.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            render_as_batch=True,  # SQLite alters a table only by copying it
        )
        environment.run_migrations()
