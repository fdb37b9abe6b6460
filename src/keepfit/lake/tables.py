"""One Delta table, appended to exactly once per number and read by batch.

Imported only when a lake on disk or in an object store is at hand.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from keepfit.batch import BATCH, TIME
from keepfit.errors import KeepfitError, LeaseLost
from keepfit.lake.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMPACT_EVERY = 50
"""Commits between two compactions: a commit into a table of a hundred small files takes
four times as long as one into a fresh one."""

FILE_BYTES = 32 * 1024 * 1024
"""Size that compaction aims at; a file that has reached it is not written again, so that
compacting costs the same however long the history is."""

SMALL_FILE_BYTES = FILE_BYTES // 16
"""Size that all compactions but every `LARGE_EVERY`-th aim at, so that few write much again."""

LARGE_EVERY = 16

ROW_GROUP = 65_536
"""Rows per row group of a compacted file: what reading one old batch has to touch."""

HELD = 4
"""Newest commits whose rows stay at hand: a step asks several times for what has just landed."""

HELD_BYTES = 16_000_000
"""Bytes of a commit up to which its rows stay at hand: more are read in no time beside training on them."""

_LISTED: dict[str, pl.DataType] = {
    "path": pl.String(),
    "min": pl.Int64(),
    "max": pl.Int64(),
    "newest": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True, slots=True)
class Held:
    """The rows of the newest commits of a table, as they were written.

    All rows of batches from ``low`` on are in ``frames``; ``newest`` is the highest batch that
    there is in the table, whose newest commit is ``version``.
    """

    version: int
    low: int
    newest: int
    frames: tuple[pl.DataFrame, ...]

    def with_newest(self, frame: pl.DataFrame, version: int) -> Held:
        """Return the same with one commit more; of the oldest no more than `HELD` are kept."""
        frames, low = (*self.frames, frame), self.low
        for gone in frames[:-HELD]:
            low = max(low, _highest(gone) + 1)
        return Held(version, low, max(self.newest, _highest(frame)), frames[-HELD:])

    def has(self, low: int | None) -> bool:
        """Return whether all rows of batches from a number on are held."""
        return bool(self.frames) and low is not None and low >= self.low

    def frame(self, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Return the rows, with all columns of the table."""
        if all(frame.width == len(schema) for frame in self.frames):
            return pl.concat(self.frames, rechunk=False)
        there = pl.concat(self.frames, how="diagonal", rechunk=False)
        return there.select(*schema)


class Table:
    """A Delta table with one open handle.

    Parameters
    ----------
    url
        Where the table lies.
    storage_options
        What the object store needs, as ``deltalake`` names it.
    stats
        Columns whose bounds are kept per file. All others would cost a commit of a wide
        table more than they could ever save.
    """

    def __init__(self, url: str, storage_options: Mapping[str, str], stats: Sequence[str]) -> None:
        self.url = url
        self._options = dict(storage_options) or None
        self._settings: dict[str, str | None] = {"delta.dataSkippingStatsColumns": ",".join(stats)}
        self._log = None if "://" in url else Log(url)
        self._handle: DeltaTable | None = None
        self._numbers: tuple[int, dict[str, int]] = -1, {}
        self._files: tuple[int, pl.DataFrame] | None = None
        self._schema: tuple[int, dict[str, pl.DataType]] | None = None
        self._held: Held | None = None

    def refresh(self) -> None:
        """Look at what others have committed."""
        with _clear("read", self.url):
            if self._handle is not None:
                if self._log is None or not self._log.ends_at(self.version):
                    self._handle.update_incremental()
            elif _may_exist(self.url):
                try:
                    self._handle = DeltaTable(self.url, storage_options=self._options)
                except TableNotFoundError:
                    return

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed."""
        return self._handle is not None

    @property
    def identity(self) -> str:
        """The id that Delta gave the table; empty before the first commit."""
        return str(self._handle.metadata().id) if self._handle is not None else ""

    @property
    def version(self) -> int:
        """The newest commit that the handle has seen; -1 before the first."""
        return self._handle.version() if self._handle is not None else -1

    def number(self, app: str) -> int:
        """Return the newest number that an application committed; 0 before the first."""
        if self._handle is None:
            return 0
        if self._numbers[0] != self.version:
            self._numbers = self.version, {}
        known = self._numbers[1]
        if app not in known:
            known[app] = self._handle.transaction_version(app) or 0
        return known[app]

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns with their types; empty before the first commit."""
        if self._handle is None:
            return {}
        if self._schema is None or self._schema[0] != self.version:
            kept: Any = self._handle.schema().to_arrow()
            self._schema = self.version, dict(pl.Schema(kept))
        return self._schema[1]

    def append(
        self, frame: pl.DataFrame, *, app: str, number: int, note: Mapping[str, str]
    ) -> None:
        """Commit rows under an application's number, with a note in the commit.

        Delta accepts a number that it has seen before, and even an older one; what it
        refuses is a commit from a handle that has not seen the newest. So the caller asks
        `number` first, of this very handle.

        Raises
        ------
        LeaseLost
            Another process committed since the handle was refreshed.
        KeepfitError
            The table cannot be written to.
        """
        known, there = self.schema, set(frame.columns)
        lacking = [pl.lit(None, d).alias(n) for n, d in known.items() if n not in there]
        new = [name for name in frame.columns if name not in known]
        grown = bool(known and new)
        frame = frame.with_columns(lacking).select(*known, *new)
        before, held = self.version, self._held_now()
        told = self._numbers[1] if self._numbers[0] == before else {}
        self._write(
            frame,
            mode="append",
            schema_mode="merge" if grown else None,
            commit_properties=CommitProperties(
                custom_metadata=dict(note), app_transactions=[Transaction(app, number)]
            ),
        )
        # Only a frame that would be read back as it is stands for its file.
        if self.version == before + 1 and dict(frame.schema) == self.schema:
            small = frame.estimated_size() <= HELD_BYTES
            self._held = held.with_newest(frame, self.version) if small else None
            self._numbers = self.version, {**told, app: number}

    def _held_now(self) -> Held:
        """Return what is held of the table, which is nothing where others have committed since."""
        if self._held is not None and self._held.version == self.version:
            return self._held
        listed = self._listed().get_column("max")
        # Files without bounds may hold anything.
        newest = sys.maxsize if listed.null_count() else int(listed.max() or 0)  # type: ignore[arg-type]
        return Held(self.version, newest + 1, newest, ())

    def rewrite(self, types: Mapping[str, pl.DataType], note: Mapping[str, str]) -> None:
        """Write the whole table again with some columns in wider types."""
        frame = self.scan().with_columns(
            pl.col(n).cast(d) for n, d in types.items() if n in self.schema
        )
        self._write(
            frame.collect(),
            mode="overwrite",
            schema_mode="overwrite",
            target_file_size=FILE_BYTES,
            commit_properties=CommitProperties(custom_metadata=dict(note)),
        )

    def _write(self, frame: pl.DataFrame, **how: Any) -> None:
        if self._handle is not None and self._log and not self._log.ends_at(self.version):
            raise _overtaken(self.url)
        with _clear("write to", self.url):
            write_deltalake(
                self._handle if self._handle is not None else self.url,
                frame,
                configuration=self._settings if self._handle is None else None,
                storage_options=self._options if self._handle is None else None,
                # Checkpoints come with compaction; every hundredth commit would carry both.
                post_commithook_properties=PostCommitHookProperties(create_checkpoint=False),
                **how,
            )
        if self._handle is None:
            self.refresh()

    def scan(
        self, low: int | None = None, high: int | None = None, *, after: datetime | None = None
    ) -> pl.LazyFrame:
        """Return the rows of batches from ``low`` to ``high``, later than a moment.

        Only files that hold some are touched.
        """
        wanted = []
        if low is not None:
            wanted.append(pl.col(BATCH) >= low)
        if high is not None:
            wanted.append(pl.col(BATCH) <= high)
        if after is not None:
            wanted.append(pl.col(TIME) > after)
        held = self._held
        if held is not None and held.version == self.version and held.has(low):
            return held.frame(self.schema).lazy().filter(*wanted)
        files = self._listed()
        if low is not None:
            files = files.filter(pl.col("max").is_null() | (pl.col("max") >= low))
        if high is not None:
            files = files.filter(pl.col("min").is_null() | (pl.col("min") <= high))
        if after is not None:
            # Bounds of times are kept in whole milliseconds.
            slack = after - timedelta(milliseconds=1)
            files = files.filter(pl.col("newest").is_null() | (pl.col("newest") >= slack))
        if files.is_empty():
            return pl.LazyFrame(schema=self.schema)
        found = pl.scan_parquet(
            files.get_column("path").to_list(),
            schema=self.schema,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            glob=False,
            storage_options=self._options,
        )
        return found.filter(*wanted) if wanted else found

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Return what a scan found.

        Raises
        ------
        KeepfitError
            A file of the table cannot be read.
        """
        with _clear("read", self.url):
            return frame.collect()

    def _listed(self) -> pl.DataFrame:
        """Return the table's files with the bounds of their batch numbers and times."""
        if self._handle is None:
            return pl.DataFrame(schema=_LISTED)
        if self._files is None or self._files[0] != self.version:
            listed: Any = self._handle.get_add_actions(flatten=True)
            actions = pl.DataFrame(listed)
            bounds = {"min": f"min.{BATCH}", "max": f"max.{BATCH}", "newest": f"max.{TIME}"}
            files = actions.select(
                _paths(self._handle, actions),
                *(
                    (pl.col(column) if column in actions.columns else pl.lit(None))
                    .cast(_LISTED[name])
                    .alias(name)
                    for name, column in bounds.items()
                ),
            )
            self._files = self.version, files.sort("min", "path")
        return self._files[1]

    def stretches(self, low: int) -> Iterator[tuple[int, int]]:
        """Return stretches of batch numbers from ``low`` that are read well together."""
        if self._handle is None:
            return
        found = self.collect(self.scan(low).select(pl.col(BATCH).unique().sort()))
        numbers = found.get_column(BATCH).to_list()
        for start in range(0, len(numbers), COMPACT_EVERY):
            part = numbers[start : start + COMPACT_EVERY]
            yield part[0], part[-1]

    def notes(
        self, prefix: str | tuple[str, ...], limit: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """Return the notes of past commits, newest first, as far as the log goes back."""
        if self._handle is not None:
            for commit in self._handle.history(limit):
                for key, note in commit.items():
                    if key.startswith(prefix):
                        yield key, str(note)

    def compact(self, note: Callable[[], Mapping[str, str]]) -> bool:
        """Join small files once in `COMPACT_EVERY` commits; return whether it was time."""
        if self._handle is None or self.version % COMPACT_EVERY != COMPACT_EVERY - 1:
            return False
        large = self.version // COMPACT_EVERY % LARGE_EVERY == LARGE_EVERY - 1
        with _clear("compact", self.url):
            self._handle.optimize.compact(
                target_size=FILE_BYTES if large else SMALL_FILE_BYTES,
                writer_properties=WriterProperties(
                    compression="SNAPPY", max_row_group_size=ROW_GROUP
                ),
                commit_properties=CommitProperties(custom_metadata=dict(note())),
            )
            self._handle.create_checkpoint()
            if self._log is not None:
                self._log.trim()
            else:
                self._handle.cleanup_metadata()
            # Files that compaction replaced a week ago; younger ones may still be read.
            self._handle.vacuum(dry_run=False)
        return True

    def problems(self) -> list[str]:
        """Return what is wrong with the table."""
        if self._handle is None:
            return []
        missing = [path for path in self._listed().get_column("path") if _gone(path)]
        found = (
            [f"{self.url}: {len(missing)} data files are gone, such as {missing[0]}"]
            if missing
            else []
        )
        vectors: Any = self._handle.deletion_vectors()
        if pl.DataFrame(vectors).height:
            found.append(f"{self.url}: rows were deleted by vector, which keepfit does not read")
        return found


def _paths(handle: DeltaTable, actions: pl.DataFrame) -> pl.Series:
    root = handle.table_uri
    local = url2pathname(urlparse(root).path) if root.startswith("file://") else root
    return actions.get_column("path").map_elements(
        lambda path: path if "://" in path else os.path.join(local, path), return_dtype=pl.String
    )


def _highest(frame: pl.DataFrame) -> int:
    """Return the highest batch number among rows; 0 when there are none."""
    return int(frame.get_column(BATCH).max() or 0)  # type: ignore[arg-type]


def _may_exist(url: str) -> bool:
    return "://" in url or os.path.isdir(os.path.join(url, "_delta_log"))


def _gone(path: str) -> bool:
    return "://" not in path and not os.path.exists(path)


@contextmanager
def _clear(verb: str, url: str) -> Iterator[None]:
    """Turn what goes wrong below into an error that a person can act on."""
    try:
        yield
    except CommitFailedError as error:
        raise _overtaken(url) from error
    except KeepfitError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise KeepfitError(
            f"cannot {verb} {url}: {lines[0].strip()}", hint=_hint(str(error))
        ) from error


def _overtaken(url: str) -> LeaseLost:
    return LeaseLost(
        f"another process wrote to {url} at the same time",
        hint="let one process run a pipeline; `keepfit status` says which",
    )


def _hint(text: str) -> str | None:
    lowered = text.lower()
    if "no space" in lowered or "file too large" in lowered or "quota" in lowered:
        return "the disk is full: free some space and run again; nothing is lost"
    if "permission" in lowered or "access" in lowered or "read-only" in lowered:
        return "this user may not write there: change the permissions, or move the lake with KEEPFIT_LAKE"
    if "not a directory" in lowered or "does not exist" in lowered:
        return "the path must be a folder, or one that can be made"
    return None
