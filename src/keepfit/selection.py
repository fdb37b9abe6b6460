"""Selections: which labelled rows a challenger trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keepfit.batch import TIME
from keepfit.clock import duration
from keepfit.errors import ConfigError
from keepfit.parts import Part

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.protocols import Moment, Selection


@dataclass(frozen=True, repr=False)
class _Capped(Part):
    """Base of the selections: a cap on the rows, of which the newest are kept."""

    at_most: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        whole = isinstance(self.at_most, int) and not isinstance(self.at_most, bool)
        if self.at_most is not None and (not whole or self.at_most < 1):
            raise ConfigError(
                f"{type(self).__name__}: expected at_most to be a whole number of rows "
                f"from 1, got {self.at_most!r}"
            )

    def _newest(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self.at_most is None else rows.tail(self.at_most)


@dataclass(frozen=True, repr=False)
class Expanding(_Capped):
    """All labelled rows so far.

    Right where the past stays true; dear as the stream grows, unless ``at_most`` caps it.

    Examples
    --------
    >>> Expanding(), Expanding(at_most=100_000)
    (Expanding(), Expanding(at_most=100000))
    """

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        return self._newest(rows)


@dataclass(frozen=True, repr=False)
class Sliding(_Capped):
    """The rows of a length of event time, counted back from the newest labelled row.

    Right where the past stops being true. A row exactly that old is out, so that
    neighbouring windows share no row.

    Examples
    --------
    >>> Sliding("90d")
    Sliding("90d")

    Raises
    ------
    ConfigError
        The length is not a duration, or it is zero.
    """

    length: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not duration(self.length):
            raise ConfigError(f"Sliding: expected a length above zero, got {self.length!r}")

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        import polars as pl

        if rows.is_empty():
            return rows
        oldest = pl.col(TIME).max() - duration(self.length)
        return self._newest(rows.filter(pl.col(TIME) > oldest))


@dataclass(frozen=True, repr=False)
class SinceLast(_Capped):
    """The rows newer than those of the last training; all rows when there was none.

    Right for a warm start, where the champion already knows the older rows.

    Examples
    --------
    >>> SinceLast()
    SinceLast()
    """

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        return self._newest(_split(rows, moment)[1])


@dataclass(frozen=True, repr=False)
class Replay(_Capped):
    """The rows since the last training with a uniform sample of older ones.

    Right for a warm start that must not forget: the older rows stand for what the
    champion learnt before. Without new rows nothing is chosen; when nothing was trained
    before, all rows are new.

    Parameters
    ----------
    new
        The share of the chosen rows that the new ones make up, as far as there are
        enough older ones.
    buffer
        The most older rows.
    at_most
        The most rows together; the share is kept, and of the new rows the newest are.

    Examples
    --------
    >>> Replay(new=0.5)
    Replay(new=0.5)

    References
    ----------
    Rolnick et al., Experience Replay for Continual Learning (2019).
    """

    new: float = field(default=0.7, kw_only=True)
    buffer: int = field(default=20_000, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.new <= 1.0:
            raise ConfigError(
                f"Replay: expected the share of new rows above 0 up to 1, got {self.new!r}",
                hint="new=0.7 takes three older rows for every seven new ones",
            )
        if self.buffer < 0:
            raise ConfigError(f"Replay: expected a buffer of 0 rows or more, got {self.buffer!r}")

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        import polars as pl

        older, newer = _split(rows, moment)
        if older.is_empty():
            return self._newest(newer)
        if self.at_most is not None:
            newer = newer.tail(max(1, round(self.at_most * self.new)))
        wanted = round(newer.height * (1 - self.new) / self.new)
        if self.at_most is not None:
            wanted = min(wanted, self.at_most - newer.height)
        places = _sample(older.height, min(wanted, self.buffer), moment.seed)
        # Older rows all come before newer ones, so joining them keeps the order.
        return pl.concat([older[places], newer])


def resolve(selection: Selection | None) -> Selection:
    """Return a selection as the loop uses it; None is `Expanding`.

    Raises
    ------
    ConfigError
        The argument is no selection, or it is a list or a class.
    """
    if selection is None:
        return Expanding()
    if isinstance(selection, type):
        raise ConfigError(
            f"expected a selection, got the class {selection.__name__}",
            hint=f"write selection.{selection.__name__}(...)",
        )
    if isinstance(selection, Sequence) or not callable(getattr(selection, "select", None)):
        raise ConfigError(
            f"expected one selection, got {selection!r}",
            hint="write select=selection.Sliding('90d'); several are several challengers",
        )
    return selection


def _split(rows: pl.DataFrame, moment: Moment) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows up to the newest row trained on before, and those after it."""
    if moment.since is None:
        return rows.clear(), rows
    # Rows are sorted by time, so that one search finds the border.
    place = rows.get_column(TIME).search_sorted(moment.since, side="right")
    return rows[:place], rows[place:]


def _sample(rows: int, wanted: int, seed: int) -> np.ndarray:
    """Return places of rows drawn without replacement, in rising order."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(rows, size=min(wanted, rows), replace=False, shuffle=False))
