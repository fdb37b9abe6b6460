"""Which rows the lake holds: asked of its index, without the lake."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from keepfit.home import places
from keepfit.lake.index import index_path

WAIT = 0.1
"""Seconds to wait for whoever writes to the index."""


class LandedIds:
    """The ids of a pipeline's lake, as its index has them; an index that is not there has none.

    A label may be of a row that came with the source, and that no journal has.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._path = index_path(f"{places(home)['lake'].rstrip('/')}/{name}")

    def __call__(self, ids: Sequence[int | str]) -> set[int | str]:
        """Return those of some ids whose row has landed."""
        return {one for (one,) in self._asked(_HELD, json.dumps(list(ids)))} if ids else set()

    def kind(self) -> str:
        """Return whether ids are kept as ``number`` or ``text``; empty where none has landed."""
        return next((_KINDS.get(told, "") for (told,) in self._asked(_KIND)), "")

    def _asked(self, query: str, *given: str) -> list[tuple[Any, ...]]:
        if not self._path.is_file():
            return []
        try:
            address = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=WAIT)) as connection:
                return connection.execute(query, given).fetchall()
        except sqlite3.Error:
            return []  # it is being built: what cannot be known counts as not landed


_KINDS = {"integer": "number", "text": "text"}
_KIND = "SELECT typeof(id) FROM rows LIMIT 1"
_HELD = "SELECT DISTINCT id FROM rows WHERE id IN (SELECT value FROM json_each(?))"
