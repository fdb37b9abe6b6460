"""Where a source stands in its pieces: what a cursor says."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import msgspec

from keepfit.errors import ConfigError

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEY = 8
"""Letters of a key: six bytes, so that a million names give one clash in 500 folders."""

_SPARE = 64


class _Told(msgspec.Struct, forbid_unknown_fields=True):
    """The cursor as text. ``done`` stands first, since it only grows: see `Place`."""

    done: str
    origin: int | None
    watermark: int | None
    part: dict[str, tuple[str, int]]


class Place:
    """Which pieces have been read, with which content, and up to which event time.

    Whether a file was read is known exactly, by its name, size and time of change. A mark
    such as "all that changed before noon" would be shorter and would miss files: copies
    keep their old times (``cp -p``, ``rsync -a``), and a folder moved into place changes
    no time of the files in it. A file that is gone is not forgotten either, for a disk
    that was away comes back with all its files.

    So a place takes 16 letters for every file there ever was. The text keeps them in the
    order in which they were finished, and a fact holds only what differs from the cursor
    before (see `keepfit.batch.shortened`): what is kept for a batch does not grow. A file
    that is written again stands there again, the last one counts, and the text is written
    anew when half of it is outlived.

    Times are microseconds since 1970, as in the rows.
    """

    def __init__(self, told: _Told) -> None:
        self.origin = told.origin
        self.watermark = told.watermark
        self._done = told.done
        self._part = dict(told.part)
        self._read = {
            told.done[at : at + KEY]: told.done[at + KEY : at + 2 * KEY]
            for at in range(0, len(told.done), 2 * KEY)
        }

    @classmethod
    def of(cls, cursor: str | None) -> Place:
        """Return the place that a cursor names; None is the beginning.

        Raises
        ------
        ConfigError
            Another kind of source wrote the cursor.
        """
        if cursor is None:
            return cls(_Told("", None, None, {}))
        try:
            told = msgspec.json.decode(cursor, type=_Told)
        except msgspec.MsgspecError:
            told = None
        if told is None or len(told.done) % (2 * KEY):
            raise not_understood(cursor)
        return cls(told)

    def text(self) -> str:
        """Return the cursor that names this place."""
        if len(self._done) > 2 * KEY * (2 * len(self._read) + _SPARE):
            self._done = "".join(name + mark for name, mark in self._read.items())
        told = _Told(self._done, self.origin, self.watermark, self._part)
        return msgspec.json.encode(told).decode()

    @property
    def begun(self) -> bool:
        """Whether anything has been read."""
        return self.origin is not None

    def finished(self, name: str, mark: str) -> bool:
        """Whether a piece has been read to its end."""
        return self._read.get(name) == mark

    def until(self, name: str, mark: str) -> int | None:
        """Return the event time up to which a piece has been read; None when nothing of it."""
        kept, until = self._part.get(name, (None, None))
        return until if kept == mark else None

    def finish(self, name: str, mark: str) -> None:
        """Remember that a piece was read to its end."""
        self._part.pop(name, None)
        self._read.pop(name, None)
        self._read[name] = mark
        self._done += name + mark

    def read_until(self, name: str, mark: str, until: int) -> None:
        """Remember that a piece was read up to an event time."""
        self._part[name] = mark, until


def key(text: str) -> str:
    """Return what stands for a name, or for the state of a file, in a cursor."""
    return urlsafe_b64encode(blake2b(os.fsencode(text), digest_size=6).digest()).decode()


def not_understood(cursor: str) -> ConfigError:
    """Return the error of a source that is handed another one's cursor."""
    shown = cursor if len(cursor) <= 60 else cursor[:57] + "..."
    return ConfigError(
        f"expected a cursor of this source, got {shown!r}",
        hint="a pipeline keeps to its kind of source: give this one another name, or another home",
    )


def micro(moment: datetime) -> int:
    """Return a moment as microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def moment(microseconds: int) -> datetime:
    """Return the moment that is some microseconds after 1970."""
    return EPOCH + microseconds * MICROSECOND
