"""What every source promises, as a check that a source of your own can be put to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keepfit.batch import ARRIVED_AT, ID, KNOWN_AT, LABEL, RESERVED, TIME, Batch, Roles
from keepfit.clock import duration
from keepfit.protocols import Source

if TYPE_CHECKING:
    import polars as pl

_READS = 10_000


def check_source(
    make_source: Callable[[], Source],
    *,
    every: str | timedelta = "7d",
    now: datetime | None = None,
) -> None:
    """Check that a source does what a pipeline relies on.

    Parameters
    ----------
    make_source
        Makes a new source over the same rows each time, as a new process would. There
        must be rows and labels, in three cadences or more.
    every
        The cadence to read in.
    now
        A moment by which all rows have happened; the present unless given.

    Raises
    ------
    AssertionError
        The source breaks its contract; the message says where.
    """
    length, moment = duration(every), now or datetime.now(UTC)
    source = make_source()
    assert isinstance(source, Source), f"{source!r} lacks roles, read or history"
    assert isinstance(source.roles, Roles), f"roles is {type(source.roles).__name__}, not Roles"
    history = source.history()
    _check_history(history)
    assert _same(history, make_source().history()), "the same history twice differs"
    batches = list(_read_on(source, None, moment, length))
    assert len(batches) >= 3, f"{len(batches)} batches: give rows in three cadences or more"
    _check_batches(batches, length)
    _check_nothing_lost(history, batches)
    _check_resumed(make_source, batches, moment, length)
    _check_idle(make_source, source, history, batches, length)


def _read_on(
    source: Source, cursor: str | None, now: datetime, every: timedelta
) -> Iterator[Batch]:
    for _ in range(_READS):
        batch = source.read(cursor, now=now, every=every)
        if batch.empty:
            return
        assert batch.cursor != cursor, "rows were read and the cursor stayed the same"
        yield batch
        cursor = batch.cursor
    raise AssertionError(f"the source still has unread rows after {_READS:,} reads")


def _check_frames(batch: Batch, where: str) -> None:
    import polars as pl

    rows, labels = batch.rows, batch.labels
    utc = pl.Datetime("us", "UTC")
    assert rows.columns[:3] == [ID, TIME, ARRIVED_AT], (
        f"{where}: rows begin with {rows.columns[:3]}"
    )
    extra = RESERVED.intersection(rows.columns[3:])
    assert not extra, f"{where}: rows have {sorted(extra)} among their features"
    assert labels.columns == [ID, LABEL, TIME, KNOWN_AT], f"{where}: labels have {labels.columns}"
    for frame, times in ((rows, (TIME, ARRIVED_AT)), (labels, (TIME, KNOWN_AT))):
        assert frame.schema[ID] in (pl.Int64, pl.String), f"{where}: ids are {frame.schema[ID]}"
        for name in times:
            assert frame.schema[name] == utc, f"{where}: {name} is {frame.schema[name]}, not {utc}"
    for name, frame in (
        (ID, rows),
        (TIME, rows),
        (ARRIVED_AT, rows),
        (ID, labels),
        (LABEL, labels),
    ):
        assert frame.get_column(name).null_count() == 0, f"{where}: {name} has missing values"
    assert labels.get_column(KNOWN_AT).null_count() == 0, f"{where}: _known_at has missing values"


def _check_history(history: Batch) -> None:
    _check_frames(history, "history")
    rows = history.rows
    assert rows.height, "history: there are no rows"
    assert history.labels.height, "history: there are no labels"
    ordered = rows.select(ARRIVED_AT, TIME, ID)
    assert ordered.equals(ordered.sort(ARRIVED_AT, TIME, ID)), (
        "history: rows are not in order of arrival"
    )
    once = rows.select(ID, ARRIVED_AT).is_duplicated().any()
    assert not once, "history: an id comes twice at one arrival"


def _check_batches(batches: list[Batch], every: timedelta) -> None:
    import polars as pl

    watermark: datetime | None = None
    for place, batch in enumerate(batches):
        where = f"batch {place}"
        _check_frames(batch, where)
        rows = batch.rows
        assert rows.get_column(ID).n_unique() == rows.height, f"{where}: an id comes twice"
        keys = rows.select(TIME, ID)
        assert keys.equals(keys.sort(TIME, ID)), f"{where}: rows are not sorted by time and id"
        on_time = rows if watermark is None else rows.filter(pl.col(TIME) >= watermark)
        if on_time.height:
            reach = on_time.get_column(TIME)[-1] - on_time.get_column(TIME)[0]
            assert reach <= every, f"{where}: it reaches over {reach}, further than one cadence"
        if batch.watermark is not None:
            assert batch.watermark.utcoffset() == timedelta(0), (
                f"{where}: the watermark is not in UTC"
            )
            back = watermark is not None and batch.watermark < watermark
            assert not back, (
                f"{where}: the watermark went back from {watermark} to {batch.watermark}"
            )
            watermark = batch.watermark
        last = place == len(batches) - 1
        assert batch.backlog or last, f"{where}: more was waiting and backlog is false"


def _check_nothing_lost(history: Batch, batches: list[Batch]) -> None:
    for part in ("rows", "labels"):
        expected = _ids(getattr(history, part))
        got = set().union(*(_ids(getattr(batch, part)) for batch in batches))
        assert got == expected, (
            f"read brought other {part} than history: {len(expected - got)} are missing, "
            f"{len(got - expected)} are new"
        )


def _check_resumed(
    make_source: Callable[[], Source], batches: list[Batch], now: datetime, every: timedelta
) -> None:
    """Check that a new process goes on from any cursor; it may repeat rows, not lose one."""
    for place in {0, len(batches) // 2, len(batches) - 1}:
        rest = list(_read_on(make_source(), batches[place].cursor, now, every))
        for part in ("rows", "labels"):
            expected = set().union(*(_ids(getattr(b, part)) for b in batches[place + 1 :]), ())
            got = set().union(*(_ids(getattr(b, part)) for b in rest), ())
            lost = expected - got
            assert not lost, (
                f"a new source lost {len(lost)} {part} after the cursor of batch {place}"
            )
    again = make_source().read(None, now=now, every=every)
    assert again.rows.select(ID, TIME).equals(batches[0].rows.select(ID, TIME)), (
        "two new sources begin with different rows"
    )


def _check_idle(
    make_source: Callable[[], Source],
    source: Source,
    history: Batch,
    batches: list[Batch],
    every: timedelta,
) -> None:
    end = batches[-1].cursor
    newest = history.labels.get_column(KNOWN_AT).max()
    assert isinstance(newest, datetime)
    idle = source.read(end, now=max(datetime.now(UTC), newest) + every, every=every)
    assert idle.empty, "a source that was read to its end brings more"
    assert idle.cursor == end, "nothing was unread and the cursor changed"
    first = history.rows.get_column(TIME).min()
    assert isinstance(first, datetime)
    before = make_source().read(None, now=first - timedelta(days=1), every=every)
    assert before.rows.is_empty(), "rows were read before they had happened"


def _ids(frame: pl.DataFrame) -> set[object]:
    return set(frame.get_column(ID).to_list())


def _same(first: Batch, second: Batch) -> bool:
    return first.rows.equals(second.rows) and first.labels.equals(second.labels)
