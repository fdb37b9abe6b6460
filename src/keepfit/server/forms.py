"""Rows of JSON that all have the same columns, read without a dictionary for each.

A client mostly sends rows of one form. Once it is known, its rows are read into tuples, in half
the time, and kept so: the names once, and not with every row.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from keepfit.batch import Roles
from keepfit.errors import SchemaMismatch
from keepfit.journal.sheets import packed
from keepfit.server.quick import Matrix
from keepfit.server.values import FURTHEST, distinct, timely

if TYPE_CHECKING:
    from keepfit.server.models import Serving

Values = Sequence[Any]

KNOWN = 16
"""Forms that are known at once at most: each takes a class of its own."""

SHORT = 64 * 1024
"""Bytes of the longest body that is tried: longer ones hold more rows than are answered at once."""


class Table(NamedTuple):
    """Rows of a request: those values of each that the model needs, in its order, and its ids.

    ``body`` is what is kept of them.
    """

    values: Sequence[Values]
    ids: Sequence[Any]
    body: bytes


class Form:
    """The columns of rows, in the order in which they are sent, of which the model needs some.

    ``single`` are those in which it takes no list: what is in others is looked at here.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        needed: Sequence[str],
        single: Collection[str],
        roles: Roles,
    ) -> None:
        self.names = names
        fields = [f"c{place}" for place in range(len(names))]
        row = msgspec.defstruct(
            "Row",
            [(field, Any) for field in fields],
            rename=dict(zip(fields, names, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        # No type checker knows a class that is made from the names of a request.
        self._decode = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
        self._pick = _picking([names.index(name) for name in needed], len(names))
        self._id = names.index(roles.id) if roles.id in names else None
        self._time = names.index(roles.time) if roles.time in names else None
        looked_at = {*single, roles.id, roles.time}
        self._others = [place for place, name in enumerate(names) if name not in looked_at]

    def rows(self, body: bytes) -> list[Values]:
        """Return the values of each object of a list.

        Raises
        ------
        msgspec.MsgspecError
            One has other columns, or it is no such list.
        """
        return list(map(msgspec.structs.astuple, self._decode(body)))

    def table(self, rows: Sequence[Values]) -> Table | None:
        """Return rows as they are answered and kept, or None where one holds what `checked` refuses.

        Raises
        ------
        OverflowError
            A whole number does not fit into 64 bits.
        """
        if self._time is not None:
            latest = time.time() + FURTHEST
            times = [at for row in rows if (at := row[self._time]) is not None]
            if not all(timely(at, latest) for at in times):
                return None
        for place in self._others:
            if any(isinstance(row[place], _SEVERAL) for row in rows):
                return None
        ids = [None] * len(rows) if self._id is None else [row[self._id] for row in rows]
        values = rows if self._pick is None else list(map(self._pick, rows))
        return Table(values, ids, packed(self.names, rows))


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    """Rows as lists, and what their values are called."""

    names: tuple[str, ...]
    rows: list[list[Any]]


_named = msgspec.json.Decoder(_Named).decode
_NAMED = b'{"names":'


def begins_as_rows(body: bytes) -> bool:
    """Return whether a body looks like several rows in a form that `Forms.read` may know."""
    return body[:1] == b"[" or body[:9] == _NAMED


_SEVERAL = (list, dict)
_UNNAMED = re.compile(r'["\\\x00-\x1f]')


def _picking(places: list[int], width: int) -> Callable[[Values], Values] | None:
    """Return what takes the values at some places, or None where it is all of them in order."""
    if places == list(range(width)):
        return None
    if len(places) == 1:
        place = places[0]
        return lambda row: (row[place],)
    return itemgetter(*places)


class Forms:
    """The forms in which rows have come for a version."""

    def __init__(self, serving: Serving, roles: Roles) -> None:
        answerer = serving.answerer
        able = isinstance(answerer, Matrix) and answerer.alone
        self._needed = answerer.encoder.names if isinstance(answerer, Matrix) and able else None
        self._single = frozenset(answerer.model.features)
        self._roles = roles
        self._known: dict[tuple[str, ...], Form] = {}
        self._last: Form | None = None

    def read(self, body: bytes) -> Table | None:
        """Return the rows of a body where their form is known, else None."""
        if self._last is None or len(body) > SHORT:
            return None
        try:
            if body[:1] == b"[":
                return self._last.table(self._last.rows(body))
            return self._listed(_named(body))
        except (msgspec.MsgspecError, RecursionError, OverflowError):
            return None  # it is read in the other way, which says what is wrong, if anything is

    def _listed(self, found: _Named) -> Table | None:
        form = self._known.get(found.names)
        if form is None or set(map(len, found.rows)) != {len(found.names)}:
            return None
        return form.table(found.rows)

    def learn(self, rows: Sequence[dict[str, Any]]) -> None:
        """Expect the form of these rows, which `read` did not know, from now on."""
        if self._needed is None or len(rows) < 2:
            return
        names = tuple(rows[0])
        if names != tuple(rows[-1]):
            return
        if names not in self._known:
            if len(self._known) >= KNOWN or not self._plain(names):
                return
            self._known[names] = Form(names, self._needed, self._single, self._roles)
        self._last = self._known[names]

    def _plain(self, names: tuple[str, ...]) -> bool:
        """Return whether rows of some names are such as a form can read, and none has a label.

        What is said of labels is said in the other way, which reads each.
        """
        needed = self._needed or ()
        if not set(needed) <= set(names) or not {
            self._roles.label,
            self._roles.known_at,
        }.isdisjoint(names):
            return False
        try:
            distinct(names)
        except SchemaMismatch:
            return False
        # A struct takes none of these in a name.
        return not any(_UNNAMED.search(name) for name in names)
