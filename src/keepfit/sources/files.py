"""Files that come and grow: Parquet and CSV."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit.errors import ConfigError, SourceError
from keepfit.facts import Finding
from keepfit.sources.normal import warning
from keepfit.sources.place import Place
from keepfit.sources.windows import Mark, Windows, said, shown

if TYPE_CHECKING:
    import polars as pl


class Files(Windows):
    """A source made of files: one, those of a folder that end as they should, or those of a glob."""

    suffix: str | tuple[str, ...]
    """How files of a folder end."""

    path: str

    def _look_at(self, path: str | Path) -> None:
        """Remember where the files are."""
        if not str(path):
            raise ConfigError("expected a path, got nothing")
        self.path = str(path)
        # The loop may run on after its process went to another folder.
        self._absolute = os.path.abspath(self.path)
        self._paths: dict[str, str] = {}

    def _marks(self, told: list[Finding]) -> dict[str, Mark]:
        found, self._paths = {}, {}
        for name, path in sorted(self._files(told)):
            try:
                seen = os.stat(path)
            except OSError:  # gone between listing and looking, or a link to nothing
                continue
            if not stat.S_ISREG(seen.st_mode):
                continue
            found[name] = Mark((seen.st_size, seen.st_mtime_ns), seen.st_ctime_ns)
            self._paths[name] = path
        return found

    def _files(self, told: list[Finding]) -> Iterator[tuple[str, str]]:
        """Yield the files, each by a name that stays when all of them move elsewhere."""
        if os.path.isfile(self._absolute):
            yield os.path.basename(self._absolute), self._absolute
        elif os.path.isdir(self._absolute):
            start = len(os.path.join(self._absolute, ""))
            for path in _inside(self._absolute, self.suffix, told):
                yield path[start:], path
        else:
            start = len(os.path.join(_fixed(self._absolute), ""))
            for path in glob.iglob(self._absolute, recursive=True):
                yield path[start:], path

    def _nothing(self, place: Place) -> str | None:
        if place.begun and os.path.isdir(_fixed(self._absolute)):
            return None  # files may be taken away once they were read
        ends = self.suffix if isinstance(self.suffix, str) else self.suffix[0]
        return f"no {ends} files at {self.path!r}{self._others()}"

    def _others(self) -> str:
        """Return what is there that another source of files reads, as the end of a sentence."""
        for kind in (Parquet, Csv):
            found = next(_inside(self._absolute, kind.suffix, []), None)
            if found is not None:
                name = shown(os.path.basename(found))
                return f", but {name}, which sources.{kind.__name__} reads"
        return ""


class Parquet(Files):
    """Rows from Parquet files: a file, a folder or a glob, which may grow.

    Each file is read once, and again when it is written again; what it repeats is dropped.
    A file that cannot be read yet is told and tried again when it changes. Files and
    folders whose name begins with a dot or an underscore are left alone.

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
        The time from event to label: ``"14d"``. Younger rows neither teach nor judge, unless those
        before show that labels of every class come sooner: those with a label are not like the others.
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
        self._look_at(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {said(self.roles)})"

    def _load(self, name: str, told: list[Finding]) -> pl.DataFrame:
        import polars as pl

        return pl.read_parquet(self._paths[name], glob=False)


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
        separator: str = ",",
    ) -> None:
        super().__init__(
            path,
            time=time,
            label=label,
            id=id,
            label_delay=label_delay,
            known_at=known_at,
            arrived_at=arrived_at,
        )
        if not (isinstance(separator, str) and len(separator) == 1 and separator.isascii()):
            raise ConfigError(
                f"expected one ASCII character for separator, got {separator!r}",
                hint='a tab is written "\\t"',
            )
        self.separator = separator

    def _load(self, name: str, told: list[Finding]) -> pl.DataFrame:
        import polars as pl

        content = Path(self._paths[name]).read_bytes()
        whole = content.rfind(b"\n") + 1
        if not whole:
            raise SourceError("it has no whole line yet")
        if whole < len(content):
            told.append(
                warning(
                    f"the last line of {shown(name)} has no end, and is left for the next read",
                    hint="if the file is complete, end its last line with a line break",
                )
            )
        return pl.read_csv(
            content[:whole],
            separator=self.separator,
            try_parse_dates=True,
            infer_schema_length=None,
        )


def _inside(folder: str, suffix: str | tuple[str, ...], told: list[Finding]) -> Iterator[str]:
    """Yield the files of a folder and of those in it; what is hidden is somebody's own."""
    try:
        with os.scandir(folder) as entries:
            seen = list(entries)
    except FileNotFoundError:  # gone between listing and looking
        return
    except OSError as error:
        told.append(warning(f"folder {shown(folder)} cannot be listed: {error.strerror}"))
        return
    for entry in seen:
        if entry.name[0] in "._":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(entry.path, suffix, told)
        elif entry.name.endswith(suffix):
            yield entry.path


def _fixed(path: str) -> str:
    """Return the folder in which a glob begins to look; a path without one as it is."""
    while glob.has_magic(path):
        path = os.path.dirname(path)
    return path
