"""Folders of images, one row each."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit.errors import ConfigError, ExtraMissing
from keepfit.facts import Finding
from keepfit.sources.files import Files

if TYPE_CHECKING:
    import polars as pl

IMAGE = "image"
PATH = "path"
TAKEN = "taken_at"
MODES = {"L": 1, "RGB": 3}
"""Colours by name, as Pillow has them, with how many numbers they are a pixel."""

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "j": 3, "y": 2, "f": 6}
"""How many digits each part of a time takes in a name."""


class Folder(Files):
    """Images in a folder, one row each: their pixels, their class, and when they were taken.

    The id of a row is the path within the folder. Its one feature is the column ``image``: the
    pixels of the image, brought to one size, as numbers from 0 to 1 in the order colours, rows,
    columns, which is how PyTorch has them: ``nn.Unflatten(1, (3, 64, 64))`` makes an image of
    them again. An image that is written again is a correction of its row. One that cannot be
    read is told, and tried again when it changes.

    Parameters
    ----------
    path
        A folder (its images at any depth), an image, or a glob.
    label
        The name of the label: the class of an image is the sub-folder it lies in, the first
        one of several. Leave it out where classes come from a table: that is a second source,
        ``Pipeline(…, labels=sources.Csv("labels.csv", id="path", time="checked_at", label="breed"))``.
    size
        Width and height to which images are brought.
    mode
        ``"RGB"``, or ``"L"`` for shades of grey.
    time
        How a name says when its image was taken, in the signs of `strftime`:
        ``"%Y-%m-%d_%H%M%S"`` is looked for anywhere in the path. By default the time of the
        last change of the file, which copying may set anew.
    label_delay
        The time from event to label: ``"14d"``. Younger rows neither teach nor judge, unless those
        before show that labels of every class come sooner: those with a label are not like the others.

    Raises
    ------
    ConfigError
        An argument is written wrongly.
    ExtraMissing
        Pillow is not installed.

    Examples
    --------
    >>> Folder("photos/", label="breed", size=(32, 32), time="%Y%m%d")
    Folder('photos/', label='breed', size=(32, 32), time='%Y%m%d')
    """

    suffix = _ENDINGS + tuple(ending.upper() for ending in _ENDINGS)

    def __init__(
        self,
        path: str | Path,
        *,
        label: str | None = None,
        size: tuple[int, int] = (64, 64),
        mode: str = "RGB",
        time: str | None = None,
        label_delay: str | timedelta | None = None,
    ) -> None:
        super().__init__(time=TAKEN, label=label, id=PATH, label_delay=label_delay)
        self._look_at(path)
        if len(size) != 2 or not all(isinstance(one, int) and one > 0 for one in size):
            raise ConfigError(
                f"expected size= to be width and height in pixels, got {size!r}",
                hint="write size=(64, 64)",
            )
        if mode not in MODES:
            raise ConfigError(f"expected mode= to be 'RGB' or 'L', got {mode!r}")
        if label in (PATH, TAKEN, IMAGE):
            raise ConfigError(f"expected another name for the label, got {label!r}")
        if find_spec("PIL") is None:
            raise ExtraMissing(
                "expected the package `pillow` to read images, and it is not installed",
                hint='pip install "keepfit[images]"',
            )
        self.size, self.mode, self.time = (int(size[0]), int(size[1])), mode, time
        self._named_time = None if time is None else _pattern(time)

    def __repr__(self) -> str:
        told = {"label": self.roles.label, "size": self.size, "mode": self.mode, "time": self.time}
        plain = {"label": None, "size": (64, 64), "mode": "RGB", "time": None}
        shown = [f"{name}={one!r}" for name, one in told.items() if one != plain[name]]
        return f"Folder({', '.join([repr(self.path), *shown])})"

    def _load(self, name: str, told: list[Finding]) -> pl.DataFrame:
        import polars as pl

        file = self._paths[name]
        path = name.replace(os.sep, "/")
        row = {PATH: [path], TAKEN: [self._when(path, file)], IMAGE: [self._pixels(file)]}
        if self.roles.label is not None:
            inside, _, _ = path.rpartition("/")
            row[self.roles.label] = [inside.partition("/")[0] or None]
        types = {
            PATH: pl.String(),
            TAKEN: pl.Datetime("us", "UTC"),
            IMAGE: pl.List(pl.Float32),
            self.roles.label or "": pl.String(),
        }
        return pl.DataFrame(row, schema={column: types[column] for column in row})

    def _when(self, path: str, file: str) -> datetime | None:
        """Return when an image was taken; None where its name does not say so."""
        if self._named_time is None or self.time is None:
            return datetime.fromtimestamp(os.stat(file).st_mtime, UTC)
        for found in self._named_time.finditer(path):
            try:
                moment = datetime.strptime(found[0], self.time)
            except ValueError:  # digits that are no date
                continue
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return None

    def _pixels(self, file: str) -> list[float]:
        """Return an image as numbers from 0 to 1: colours, rows, columns."""
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(file) as opened:
            # A camera held upright says so beside the pixels.
            upright = ImageOps.exif_transpose(opened).convert(self.mode)
            sized = upright.resize(self.size, Image.Resampling.BILINEAR)
            values = np.asarray(sized, dtype=np.float32) / np.float32(255.0)
        if values.ndim == 3:
            values = values.transpose(2, 0, 1)
        pixels: list[float] = values.reshape(-1).tolist()
        return pixels


def _pattern(time: str) -> re.Pattern[str]:
    """Return what finds times that are written as `strftime` would write them."""
    written = ""
    for part in re.split(r"(%.)", time):
        if not part.startswith("%"):
            written += re.escape(part)
        elif part[1:] in _DIGITS:
            written += rf"\d{{{_DIGITS[part[1:]]}}}"
        else:
            raise ConfigError(
                f"expected a time of %Y, %m, %d, %H, %M and %S, got {part!r} in {time!r}",
                hint='IMG_20240131_0930.png is found by time="%Y%m%d_%H%M"',
            )
    if "%Y" not in time and "%y" not in time:
        raise ConfigError(f"expected a time with a year, %Y, got {time!r}")
    # Digits on either side belong to another number.
    return re.compile(rf"(?<!\d){written}(?!\d)")
