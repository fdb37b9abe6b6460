"""Sources: where rows and labels come from."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from keepfit.batch import ARRIVED_AT, ID, KNOWN_AT, LABEL, RESERVED, TIME, Batch, Roles
from keepfit.clock import duration
from keepfit.errors import ConfigError, KeepfitError, SchemaMismatch, SourceError, nearest
from keepfit.facts import Finding, Outcome

if TYPE_CHECKING:
    import polars as pl

    from keepfit.protocols import Source

MICROSECOND = timedelta(microseconds=1)
EVER = timedelta(days=365_000)


class _Pieces:
    """A source made of pieces (files, or one frame), handed out window by window."""

    def __init__(
        self,
        *,
        time: str,
        label: str | None,
        id: str | None,
        label_delay: str | timedelta | None,
        known_at: str | None,
        arrived_at: str | None,
    ) -> None:
        for name, column in (
            ("time", time),
            ("label", label),
            ("id", id),
            ("known_at", known_at),
            ("arrived_at", arrived_at),
        ):
            if column is not None and not (isinstance(column, str) and column):
                raise ConfigError(f"expected a column's name for {name}, got {column!r}")
        self.roles = Roles(
            time=time,
            id=id,
            label=label,
            label_delay=None if label_delay is None else duration(label_delay),
            known_at=known_at,
            arrived_at=arrived_at,
        )
        self.labels_only = False
        self._loaded: dict[str, tuple[str, pl.DataFrame]] = {}
        self._unreadable: dict[str, str] = {}
        self._told: set[str] = set()

    def _pieces(self) -> dict[str, str]:
        """Return a signature for each piece that is there."""
        raise SourceError("a source without pieces")

    def _load(self, piece: str) -> pl.DataFrame:
        """Return the raw rows of a piece."""
        raise SourceError(f"no such piece: {piece}")

    def _nothing(self) -> str:
        return f"{self!r} has no rows"

    def history(self) -> Batch:
        """Return all rows and labels at once, with arrivals and knowledge as a backtest sees them.

        Raises
        ------
        SourceError
            There is nothing to read.
        SchemaMismatch
            A column that plays a part is missing.
        """
        import polars as pl

        findings: list[Finding] = []
        frames = [frame for _, frame in self._refreshed(self._pieces(), None, findings)]
        if not frames:
            first = findings[0].message if findings else self._nothing()
            raise SourceError(
                f"expected rows, got none: {first}",
                hint="name a file, a folder or a glob that holds rows",
            )
        rows = pl.concat(frames, how="diagonal_relaxed")
        delay = self.roles.label_delay or timedelta(0)
        clocks = rows.with_columns(
            rows[ARRIVED_AT].fill_null(rows[TIME]),
            (rows[KNOWN_AT].fill_null(rows[TIME] + delay)).alias(KNOWN_AT),
        )
        return _batch(
            clocks.sort(ARRIVED_AT, TIME, ID, maintain_order=True),
            "",
            None,
            tuple(findings),
            False,
            self.labels_only,
        )

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return what is unread at a moment, at most one cadence of event time further."""
        import polars as pl

        place = (
            json.loads(cursor)
            if cursor
            else {"origin": None, "watermark": None, "done": [], "part": {}}
        )
        findings: list[Finding] = []
        done = set(place["done"])
        pieces = {
            piece: mark for piece, mark in self._pieces().items() if _short(piece, mark) not in done
        }
        unread: dict[str, pl.DataFrame] = {}
        for piece, frame in self._refreshed(pieces, done, findings):
            until = place["part"].get(_short(piece, pieces[piece]))
            unread[piece] = frame if until is None else frame.filter(frame[TIME] >= _moment(until))
        first = min((_first(frame) for frame in unread.values() if frame.height), default=None)
        exhausted = [piece for piece, frame in unread.items() if frame.is_empty()]
        if first is None or first > now:
            return self._empty(cursor, place, pieces, exhausted if first is None else [], findings)
        end = self._end(place, unread, now, every)
        parts, left, later = [], {}, False
        for piece, frame in unread.items():
            mark = _short(piece, pieces[piece])
            part = frame.filter(frame[TIME] < end)
            if part.height:
                # An empty part would still lend its columns' types to the batch.
                parts.append(part)
            rest = frame.filter(frame[TIME] >= end)
            if rest.height:
                left[mark] = _micro(end)
                later = later or _first(rest) <= now
            else:
                done.add(mark)
                self._loaded.pop(piece, None)
        rows = pl.concat(parts, how="diagonal_relaxed")
        watermark = min(end, now + MICROSECOND)
        if place["watermark"] is not None:
            watermark = max(watermark, _moment(place["watermark"]))
        delay = self.roles.label_delay or timedelta(0)
        moment = pl.lit(now).cast(pl.Datetime("us", "UTC"))
        rows = rows.with_columns(pl.col(ARRIVED_AT).fill_null(moment)).with_columns(
            pl.max_horizontal(ARRIVED_AT, pl.col(KNOWN_AT).fill_null(pl.col(TIME) + delay)).alias(
                KNOWN_AT
            )
        )
        told = {
            "origin": place["origin"] if place["origin"] is not None else _micro(first),
            "watermark": _micro(watermark),
            "done": sorted(done),
            "part": left,
        }
        return _batch(
            rows,
            json.dumps(told, separators=(",", ":")),
            watermark,
            tuple(findings),
            later,
            self.labels_only,
        )

    def _end(
        self,
        place: dict[str, Any],
        unread: dict[str, pl.DataFrame],
        now: datetime,
        every: timedelta,
    ) -> datetime:
        """Return the end of the window that the first unread row on time lies in."""
        watermark = None if place["watermark"] is None else _moment(place["watermark"])
        times = [frame[TIME] for frame in unread.values() if frame.height]
        if watermark is not None:
            times = [
                on_time for column in times if (on_time := column.filter(column >= watermark)).len()
            ]
            if not times:
                return watermark
        first = min(_earliest(column) for column in times)
        if watermark is not None and first > now:
            return watermark
        origin = first if place["origin"] is None else _moment(place["origin"])
        return min(origin + ((first - origin) // every + 1) * every, now + MICROSECOND)

    def _empty(
        self,
        cursor: str | None,
        place: dict[str, Any],
        pieces: dict[str, str],
        read: list[str],
        findings: list[Finding],
    ) -> Batch:
        if read:
            place["done"] = sorted(
                {*place["done"], *(_short(piece, pieces[piece]) for piece in read)}
            )
        return _batch(
            None, cursor or json.dumps(place), None, tuple(findings), False, self.labels_only
        )

    def _refreshed(
        self, pieces: dict[str, str], done: set[str] | None, findings: list[Finding]
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield each piece that can be read, with keepfit's own columns, sorted by time and id."""
        if not pieces and not done:
            findings.append(
                _warn(self._nothing(), hint="name a file, a folder or a glob that holds rows")
            )
        for piece, mark in pieces.items():
            known = self._loaded.get(piece)
            if known is None or known[0] != mark:
                if self._unreadable.get(piece) == mark and done is not None:
                    continue
                try:
                    frame = self._normalised(self._load(piece), piece, findings)
                except KeepfitError:
                    raise
                except Exception as error:  # whatever a reader says of a damaged file
                    self._unreadable[piece] = mark
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                    findings.append(
                        _warn(
                            f"{os.path.basename(piece)} cannot be read: {reason}",
                            hint="it may still be being written; it is tried again when it changes",
                        )
                    )
                    continue
                known = self._loaded[piece] = mark, frame
            yield piece, known[1]

    def _normalised(self, raw: pl.DataFrame, piece: str, findings: list[Finding]) -> pl.DataFrame:
        """Return rows with ``_id``, ``_time`` and, where they are stated, the other clocks and the label."""
        import polars as pl

        roles = self.roles
        for column in sorted(roles.columns()):
            if column not in raw.columns:
                near = nearest(column, raw.columns)
                raise SchemaMismatch(
                    f"column `{column}` is missing from {os.path.basename(piece)}, "
                    f"which has {', '.join(raw.columns[:8])}",
                    hint=f"the nearest is `{near}`"
                    if near
                    else "name the columns as the source does",
                )
        clash = sorted(RESERVED & set(raw.columns))
        if clash:
            raise ConfigError(
                f"expected other names than keepfit's own, got {', '.join(clash)}",
                hint="rename them in the source",
            )
        times = {
            name: self._times(raw[column], column, findings)
            for name, column in (
                (TIME, roles.time),
                (KNOWN_AT, roles.known_at),
                (ARRIVED_AT, roles.arrived_at),
            )
            if column is not None
        }
        if self.labels_only:
            times[KNOWN_AT] = times[TIME]
        empty = pl.Series(values=[None] * raw.height, dtype=pl.Datetime("us", "UTC"))
        features = [_plain(raw[name]) for name in raw.columns if name not in roles.columns()]
        label = (
            raw[roles.label].alias(LABEL)
            if roles.label
            else pl.Series(LABEL, [None] * raw.height, dtype=pl.Null)
        )
        frame = pl.DataFrame(
            [
                *(times.get(name, empty).alias(name) for name in (TIME, ARRIVED_AT, KNOWN_AT)),
                _plain(label),
                *features,
            ]
        )
        ids = _ids(raw[roles.id]) if roles.id else None
        frame = frame.insert_column(
            0, (ids if ids is not None else frame[TIME].cast(pl.String)).alias(ID)
        )
        kept = frame.drop_nulls([ID, TIME])
        if kept.height < frame.height:
            findings.append(
                _warn(
                    f"{frame.height - kept.height:,} rows of {os.path.basename(piece)} "
                    "have no id or no time, and are left out"
                )
            )
        if ids is None:
            kept = _hashed(kept)
        return kept.sort(TIME, ID, maintain_order=True)

    def _times(self, values: pl.Series, name: str, findings: list[Finding]) -> pl.Series:
        import polars as pl

        dtype = values.dtype
        if dtype == pl.String:
            parsed = values.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
            lost = parsed.null_count() - values.null_count()
            if lost:
                example = values.filter(parsed.is_null()).drop_nulls()[0]
                findings.append(
                    _warn(f"{lost:,} values of `{name}` are no times, such as {example!r}", name)
                )
            return parsed
        if dtype == pl.Date:
            return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        if not isinstance(dtype, pl.Datetime):
            raise ConfigError(
                f"expected times in `{name}`, got {dtype}",
                hint="make it a time in the source: a date and time, with a zone or in UTC",
            )
        if dtype.time_zone is None:
            if name not in self._told:
                self._told.add(name)
                findings.append(
                    Finding(
                        check="source",
                        outcome=Outcome.PASS,
                        column=name,
                        message=f"`{name}` has no zone and is taken as UTC",
                    )
                )
            return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return values.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))


class Parquet(_Pieces):
    """Rows from Parquet files: a file, a folder or a glob, which may grow.

    Parameters
    ----------
    path
        A file, a folder (its ``*.parquet``, at any depth) or a glob.
    time
        The column of event times; without a zone they are taken as UTC.
    label
        The column of labels; null where not known yet.
    id
        The column of ids; without one, a hash of time and content.
    label_delay
        The time from event to label: ``"14d"``.
    known_at, arrived_at
        Columns that say when the label became known, and when the row arrived.

    Raises
    ------
    ConfigError
        An argument is written wrongly.

    Examples
    --------
    >>> Parquet("events/", time="seen_at", label="churned")
    Parquet('events/', time='seen_at', label='churned')
    """

    suffix = ".parquet"

    def __init__(
        self,
        path: str | Path,
        *,
        time: str,
        label: str | None = None,
        id: str | None = None,
        label_delay: str | timedelta | None = None,
        known_at: str | None = None,
        arrived_at: str | None = None,
    ) -> None:
        super().__init__(
            time=time,
            label=label,
            id=id,
            label_delay=label_delay,
            known_at=known_at,
            arrived_at=arrived_at,
        )
        if not str(path):
            raise ConfigError("expected a path, got nothing")
        self.path = str(path)
        self._absolute = os.path.abspath(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {_said(self.roles)})"

    def _pieces(self) -> dict[str, str]:
        found = {}
        for file in self._files():
            try:
                seen = os.stat(file)
            except FileNotFoundError:  # gone between listing and looking
                continue
            found[file] = f"{seen.st_size}:{seen.st_mtime_ns}"
        return dict(sorted(found.items()))

    def _files(self) -> Iterator[str]:
        if os.path.isfile(self._absolute):
            yield self._absolute
        elif os.path.isdir(self._absolute):
            for folder, _, names in os.walk(self._absolute):
                yield from (
                    os.path.join(folder, n)
                    for n in names
                    if n.endswith(self.suffix) and n[0] not in "._"
                )
        else:
            yield from (
                file for file in glob.glob(self._absolute, recursive=True) if os.path.isfile(file)
            )

    def _nothing(self) -> str:
        return f"no {self.suffix} files at {self.path!r}"

    def _load(self, piece: str) -> pl.DataFrame:
        import polars as pl

        return pl.read_parquet(piece, glob=False)


class Csv(Parquet):
    """Rows from CSV files with a header line: a file, a folder or a glob, which may grow.

    A last line without an end is left for the next read, since it may still be being written.
    Arguments are those of `Parquet`, and ``separator``.

    Examples
    --------
    >>> Csv("events.csv", time="seen_at", label="churned")
    Csv('events.csv', time='seen_at', label='churned')
    """

    suffix = ".csv"

    def __init__(self, path: str | Path, *, separator: str = ",", **roles: Any) -> None:
        super().__init__(path, **roles)
        self.separator = separator

    def _load(self, piece: str) -> pl.DataFrame:
        import polars as pl

        content = Path(piece).read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        return pl.read_csv(
            whole, separator=self.separator, try_parse_dates=True, infer_schema_length=None
        )


class Frame(_Pieces):
    """Rows in memory: a Polars, pandas or Arrow table. Arguments are those of `Parquet`.

    Examples
    --------
    >>> import polars as pl
    >>> Frame(pl.DataFrame({"seen_at": [], "churned": []}), time="seen_at", label="churned")
    Frame(0 rows, time='seen_at', label='churned')
    """

    def __init__(
        self,
        frame: Any,
        *,
        time: str,
        label: str | None = None,
        id: str | None = None,
        label_delay: str | timedelta | None = None,
        known_at: str | None = None,
        arrived_at: str | None = None,
    ) -> None:
        super().__init__(
            time=time,
            label=label,
            id=id,
            label_delay=label_delay,
            known_at=known_at,
            arrived_at=arrived_at,
        )
        self._frame = _polars(frame)

    def __repr__(self) -> str:
        return f"Frame({self._frame.height:,} rows, {_said(self.roles)})"

    def _pieces(self) -> dict[str, str]:
        return {"the frame": str(self._frame.height)} if self._frame.height else {}

    def _nothing(self) -> str:
        return "the frame has no rows"

    def _load(self, piece: str) -> pl.DataFrame:
        return self._frame


class WithLabels:
    """A source of rows, and a second one whose labels are joined by id.

    The time column of the second source is when its labels became known.

    Raises
    ------
    ConfigError
        Either has no id, or the second has no label.

    Examples
    --------
    >>> rows = Parquet("rides/", id="ride", time="started_at")
    >>> answers = Parquet("complaints/", id="ride", time="filed_at", label="complained")
    >>> WithLabels(rows, answers).roles.label
    'complained'
    """

    def __init__(self, rows: Any, labels: Any) -> None:
        for source, what in ((rows, "rows"), (labels, "labels")):
            if source.roles.id is None:
                raise ConfigError(
                    f"expected an id in the source of {what}, got none",
                    hint='name its column: id="id"',
                )
        if labels.roles.label is None:
            raise ConfigError(
                "expected a label in the source of labels, got none",
                hint='name its column: label="churned"',
            )
        self.rows: Source = rows
        self.labels: Source = labels
        labels.labels_only = True
        self.roles = replace(
            rows.roles,
            label=labels.roles.label,
            label_delay=rows.roles.label_delay or labels.roles.label_delay,
        )

    def __repr__(self) -> str:
        return f"WithLabels({self.rows!r}, {self.labels!r})"

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return unread rows of one cadence, and every unread label."""
        place = json.loads(cursor) if cursor else {"rows": None, "labels": None}
        rows = self.rows.read(place["rows"], now=now, every=every)
        labels = self.labels.read(place["labels"], now=now, every=EVER)
        told = json.dumps({"rows": rows.cursor, "labels": labels.cursor})
        return replace(
            rows, labels=labels.labels, cursor=told, findings=rows.findings + labels.findings
        )

    def history(self) -> Batch:
        """Return all rows and all labels."""
        rows, labels = self.rows.history(), self.labels.history()
        return replace(rows, labels=labels.labels, findings=rows.findings + labels.findings)


def _first(rows: pl.DataFrame) -> datetime:
    """Return the first event time of rows, of which there are some."""
    return _earliest(rows[TIME])


def _earliest(times: pl.Series) -> datetime:
    return cast("datetime", times.min())


def _batch(
    rows: pl.DataFrame | None,
    cursor: str,
    watermark: datetime | None,
    findings: tuple[Finding, ...],
    backlog: bool,
    labels_only: bool,
) -> Batch:
    import polars as pl

    moment = pl.Datetime("us", "UTC")
    if rows is None:
        rows = pl.DataFrame(
            schema={
                ID: pl.Int64,
                TIME: moment,
                ARRIVED_AT: moment,
                KNOWN_AT: moment,
                LABEL: pl.Null,
            }
        )
    labels = rows.select(ID, LABEL, TIME, KNOWN_AT).drop_nulls(LABEL)
    if labels_only:
        labels = labels.with_columns(pl.lit(None, moment).alias(TIME))
        rows = rows.head(0)
    features = [name for name in rows.columns if name not in RESERVED]
    kept = rows.select(ID, TIME, ARRIVED_AT, *features)
    if watermark is not None:
        kept = kept.sort(TIME, ID, maintain_order=True)
        if kept[ID].n_unique() < kept.height:
            # The last in order of arrival is the correction; the same again is nothing.
            kept = (
                kept.sort(ARRIVED_AT, maintain_order=True)
                .unique(ID, keep="last", maintain_order=True)
                .sort(TIME, ID)
            )
    return Batch(
        rows=kept,
        labels=labels.unique(maintain_order=True),
        cursor=cursor,
        watermark=watermark,
        findings=findings,
        backlog=backlog,
    )


def _hashed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows whose id is a hash of their time and content, with a number for equal rows."""
    import polars as pl

    columns = [TIME, *sorted(name for name in rows.columns if name not in RESERVED)]
    text = rows.select(
        pl.concat_str(
            [pl.col(n).cast(pl.String).fill_null("\0") for n in columns], separator="\x1f"
        )
    )
    digests = [
        hashlib.blake2b(line.encode(), digest_size=8).hexdigest()
        for line in text.to_series().to_list()
    ]
    named = rows.with_columns(pl.Series(ID, digests))
    occurrence = pl.int_range(pl.len()).over(ID).cast(pl.String)
    return named.with_columns((pl.col(ID) + pl.lit("-") + occurrence).alias(ID))


def _ids(values: pl.Series) -> pl.Series:
    import polars as pl

    return values.cast(pl.Int64) if values.dtype.is_integer() else values.cast(pl.String)


def _plain(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype in (pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    return values


def _polars(frame: Any) -> pl.DataFrame:
    import polars as pl

    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if hasattr(frame, "iloc"):
        return pl.from_pandas(frame)
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame)
    raise ConfigError(
        f"expected a Polars, pandas or Arrow table, got {type(frame).__name__}",
        hint="files are read by sources.Parquet and sources.Csv",
    )


def _said(roles: Roles) -> str:
    told = {
        "time": roles.time,
        "label": roles.label,
        "id": roles.id,
        "known_at": roles.known_at,
        "arrived_at": roles.arrived_at,
    }
    return ", ".join(f"{name}={value!r}" for name, value in told.items() if value is not None)


def _warn(message: str, column: str | None = None, hint: str | None = None) -> Finding:
    return Finding(check="source", outcome=Outcome.WARN, message=message, column=column, hint=hint)


def _short(piece: str, mark: str) -> str:
    return hashlib.blake2b(f"{piece}\0{mark}".encode(), digest_size=5).hexdigest()


def _micro(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + microseconds * MICROSECOND
