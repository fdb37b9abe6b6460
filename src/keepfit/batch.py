"""Rows with an id, an event time and, once known, a label."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Literal

from keepfit.errors import ConfigError, SourceError
from keepfit.facts import Finding, Outcome

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

ID = "_id"
TIME = "_time"
ARRIVED_AT = "_arrived_at"
BATCH = "_batch"
LABEL = "_label"
KNOWN_AT = "_known_at"
VERSION = "_version"
SCORE = "_score"
PROPENSITY = "_propensity"
PASSED = "_passed"
WEIGHT = "_weight"
RESERVED = frozenset(
    {ID, TIME, ARRIVED_AT, BATCH, LABEL, KNOWN_AT, VERSION, SCORE, PROPENSITY, PASSED, WEIGHT}
)
"""Names that keepfit gives to its own columns; a source may not use them."""

CARRIED = (PROPENSITY, PASSED)
"""Own columns that stay with a row beside its features, where labels exist only for what was let
through (`keepfit.explore`): with what probability it was, and whether it was."""

_DIFFERENCE = "~"
_LONG = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Which columns of a source play which part; every other column is a feature.

    ``label_delay`` is the time from event to label: None when nobody said so.
    ``known_at`` and ``arrived_at`` are optional time columns: when the label became
    known, and when the row arrived.
    """

    time: str
    id: str | None = None
    label: str | None = None
    label_delay: timedelta | None = None
    known_at: str | None = None
    arrived_at: str | None = None

    def columns(self) -> frozenset[str]:
        """Return the columns that are no features."""
        parts = (self.time, self.id, self.label, self.known_at, self.arrived_at)
        return frozenset(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one read of a source brought.

    ``rows`` has the columns ``_id``, ``_time``, ``_arrived_at`` and the features, sorted
    by time and id, with every id once; where some were let through by chance, also ``_propensity`` and
    ``_passed``. ``labels`` has ``_id``, ``_label``, ``_time`` (the
    event time, null when the label came alone and its row is unknown) and ``_known_at``.
    Times are microseconds in UTC. ``cursor`` tells the source where to go on,
    ``watermark`` is the event time up to which everything has been read, ``findings``
    say what the source met on the way, and ``backlog`` is true when more is waiting.
    ``repeated`` counts rows that were left out because another with their id, which arrived at
    the same time, has other content. ``left_out`` counts what came and cannot be kept: such a batch
    is not empty, so that it lands and its findings are told. ``asked`` are the ids of rows of which
    only an answer was asked: such a row never takes the place of one that is known.

    A label that is infinite counts as missing, as one that is NaN does, and is told of.
    """

    rows: pl.DataFrame
    labels: pl.DataFrame
    cursor: str
    watermark: datetime | None = None
    findings: tuple[Finding, ...] = field(default=())
    backlog: bool = False
    repeated: int = 0
    left_out: int = 0
    asked: frozenset[int | str] = frozenset()

    def __post_init__(self) -> None:
        labels = self.labels.get_column(LABEL)
        if not labels.dtype.is_float() or not labels.is_infinite().any():
            return
        infinite = labels.is_infinite().fill_null(False)
        told = _infinite(self.labels.get_column(ID).filter(infinite), labels.len())
        # Where nothing else came it has to land too, or its source would bring it again.
        object.__setattr__(self, "labels", self.labels.filter(~infinite))
        object.__setattr__(self, "findings", (*self.findings, told))
        object.__setattr__(self, "left_out", self.left_out + int(infinite.sum()))

    @property
    def empty(self) -> bool:
        """Whether nothing came."""
        return self.rows.is_empty() and self.labels.is_empty() and not self.left_out


def _infinite(ids: pl.Series, of: int) -> Finding:
    """Return what is told of the rows whose label is infinite."""
    count, shown = ids.len(), ", ".join(repr(one) for one in ids.head(3).to_list())
    return Finding(
        check="source",
        outcome=Outcome.WARN,
        value=count,
        message=f"{count:,} of {of:,} labels {'is' if count == 1 else 'are'} infinite and "
        f"count{'s' if count == 1 else ''} as missing (id {shown}{', …' if count > 3 else ''})",
        hint="correct them by their id: nothing is learnt from such a row, and nothing is scored by it",
    )


def infinite(rows: pl.DataFrame) -> pl.Series:
    """Return which rows hold a number that is infinite, beside their label.

    Examples
    --------
    >>> import polars as pl
    >>> infinite(pl.DataFrame({"x": [1.0, float("inf"), None], "y": [1, 2, 3]})).to_list()
    [False, True, False]
    """
    import polars as pl

    held = [
        one.is_infinite().fill_null(value=False)
        for one in rows
        if one.dtype.is_float() and one.name != LABEL
    ]
    none = pl.Series([False]).new_from_index(0, rows.height)
    return reduce(or_, held, none)


def carried(columns: Iterable[str]) -> list[str]:
    """Return the columns that describe a row: features, and what else stays with it.

    Examples
    --------
    >>> carried(["_id", "_time", "amount", "_propensity"])
    ['amount', '_propensity']
    """
    return [name for name in columns if name not in RESERVED or name in CARRIED]


def digest(frame: pl.DataFrame, *, without: Collection[str] = ()) -> str:
    """Return a hash of a frame's columns and values; the same in every process and layout."""
    hashed = hashlib.sha256()
    for column in frame.iter_columns():
        if column.name in without:
            continue
        hashed.update(f"{column.name}\0{column.dtype}\0{column.len()}\0".encode())
        if column.null_count():
            hashed.update(column.is_null().to_numpy().tobytes())
        for part in _content(column):
            hashed.update(part)
    return hashed.hexdigest()


def _content(column: pl.Series) -> Iterator[bytes | memoryview]:
    """Yield the values of a column as bytes; what can be had without a query is."""
    import numpy as np
    import polars as pl

    dtype, gaps = column.dtype, column.null_count() > 0
    if dtype.is_numeric() and not dtype.is_decimal():
        values = column
    elif not gaps and isinstance(dtype, pl.Datetime | pl.Duration):
        yield column.to_numpy().view(np.int64).data.cast("B")
        return
    elif dtype in (pl.String, pl.Categorical, pl.Enum) or dtype.is_decimal():
        text = column.cast(pl.String)
        text = text.fill_null("") if gaps else text
        yield text.str.len_bytes().to_numpy().tobytes()
        yield text.str.join("").item().encode()
        return
    elif dtype.is_nested() or dtype in (pl.Binary, pl.Null, pl.Object):
        yield repr(column.to_list()).encode()
        return
    else:
        values = column.to_physical()
    if values.dtype == pl.Boolean:
        values = values.cast(pl.UInt8)
    yield np.ascontiguousarray((values.fill_null(0) if gaps else values).to_numpy()).data.cast("B")


def as_came(
    rows: pl.DataFrame, lost: Iterable[str], retyped: Mapping[str, str], accepted: Collection[str]
) -> pl.DataFrame:
    """Return a batch with the columns it came with: the lake fills up those it did not have.

    Of values in another kind only the kind is known; a word stands for them. What was accepted is
    left as it is.
    """
    import polars as pl

    gone = [name for name in lost if name not in accepted]
    other = [name for name in retyped if name not in accepted]
    if not gone and not other:
        return rows
    return rows.drop(gone, strict=False).with_columns(
        pl.lit(f"{retyped[name]} not kept").alias(name) for name in other
    )


def complete(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return the rows that have a value in each of some columns; the same frame where all have."""
    # Asking is quicker than the query, and mostly nothing is missing.
    if any(rows.get_column(name).null_count() for name in columns):
        return rows.drop_nulls(list(columns))
    return rows


def border(times: pl.Series, moment: datetime, side: Literal["left", "right"]) -> int:
    """Return where a moment stands among sorted times: before those like it, or behind them.

    Examples
    --------
    >>> from keepfit.clock import utc
    >>> import polars as pl
    >>> times = pl.Series([utc("2024-03-01"), utc("2024-03-02"), utc("2024-03-02")])
    >>> border(times, utc("2024-03-02"), "left"), border(times, utc("2024-03-02"), "right")
    (1, 3)
    """
    import numpy as np

    # Twenty times as quick as `Series.search_sorted`, which makes a query of it.
    wanted = np.datetime64((moment - _EPOCH) // _MICROSECOND, "us")
    return int(times.to_numpy().searchsorted(wanted, side=side))


def spread(rows: int, at_most: int) -> NDArray[np.intp]:
    """Return the places of so many of some rows, of all where they are fewer, evenly spread and in order.

    Rows often follow a rhythm, as hours of a day or sensors in turn. Every k-th of them may be the
    same hour each time, so of each k that follow each other one is taken, now here, now there.

    Examples
    --------
    >>> spread(12, 4).tolist()
    [1, 3, 6, 9]

    References
    ----------
    Cochran, Sampling techniques (1977): stratified, one of each stratum.
    """
    import numpy as np

    if rows <= at_most:
        return np.arange(rows)
    edges = np.arange(at_most + 1) * rows // at_most
    # Drawn, and always alike: multiples of any number meet some rhythm.
    within = np.random.default_rng(0).random(at_most)
    found: NDArray[np.intp] = edges[:-1] + (within * np.diff(edges)).astype(np.intp)
    return found


def shortened(cursor: str, before: str | None) -> str:
    """Return a long cursor as what differs from the one before, line by line.

    A source that reads files names each of them in its cursor, and a cursor is kept with
    every batch: written out, what is kept of a batch would grow with history. Of each line
    the difference has what follows the letters that it begins with as before; `restored`
    takes it back.

    Examples
    --------
    >>> before, after = "file " * 100, "file " * 100 + "new"
    >>> shortened(after, before)
    '~[2671785839,[[500,"new"]]]'
    >>> restored(shortened(after, before), before) == after
    True
    """
    if len(cursor) < _LONG and not cursor.startswith(_DIFFERENCE):
        return cursor
    lines, old = cursor.split("\n"), (before or "").split("\n")
    old += [""] * (len(lines) - len(old))
    told = []
    for line, other in zip(lines, old, strict=False):
        same = _shared(line, other)
        told.append([same, line[same:]])
    return _DIFFERENCE + json.dumps([zlib.crc32(cursor.encode()), told], separators=(",", ":"))


def restored(kept: str, before: str | None) -> str:
    """Return the cursor that was shortened against the one before.

    Raises
    ------
    SourceError
        It was shortened against another one.
    """
    if not kept.startswith(_DIFFERENCE):
        return kept
    written, told = json.loads(kept[len(_DIFFERENCE) :])
    old = (before or "").split("\n")
    old += [""] * (len(told) - len(old))
    lines = [other[:same] + rest for (same, rest), other in zip(told, old, strict=False)]
    cursor = "\n".join(lines)
    if zlib.crc32(cursor.encode()) != written:
        raise SourceError(
            "expected a cursor that goes on from the batch before, got one that does not",
            hint="the ledger lost a batch, or was changed; restore it from a copy",
        )
    return cursor


def _shared(first: str, second: str) -> int:
    """Return how many letters two texts begin with in common."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def from_pandas(frame: Any) -> pl.DataFrame:
    """Return a pandas table as one of Polars.

    Raises
    ------
    ConfigError
        Two of its columns have the same name, or one holds values of several types.
    """
    import polars as pl

    try:
        return pl.from_pandas(frame)
    except _UNHELD as error:
        raise _unheld(frame, error) from None


_UNHELD = (TypeError, ValueError, NotImplementedError, OverflowError)
"""What pandas, Arrow and Polars raise of a table that cannot be taken over."""


def _unheld(frame: Any, error: Exception) -> ConfigError:
    """Return what is wrong with a pandas table, by the column that is to blame."""
    import polars as pl

    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return ConfigError(
            f"expected every column of a pandas table once, got `{twice}` {names.count(twice)} times",
            hint="rename or drop one of them",
        )
    for place, name in enumerate(names):
        try:
            pl.from_pandas(frame.iloc[:, [place]])
        except _UNHELD:
            kinds = {type(one).__name__ for one in frame.iloc[:, place].dropna()}
            return ConfigError(
                f"expected values of one type in column `{name}`, got {', '.join(sorted(kinds))}",
                hint=f"frame[{name!r}] = frame[{name!r}].astype(str)",
            )
    return ConfigError(f"expected a table that Polars can hold, got: {error}")
