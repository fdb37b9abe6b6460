"""What all detectors of streams do: pure steps from state to state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.batch import TIME
from keepfit.drift.streaming import pickled
from keepfit.errors import ArtifactCorrupt, ConfigError, ExtraMissing
from keepfit.facts import ColumnDrift
from keepfit.parts import Part
from keepfit.profile import floats, kind_of

if TYPE_CHECKING:
    import polars as pl

STREAMS = ("loss", "score")
"""What a detector can follow that is no column: the champion's losses and its scores."""

WARM = 10_000
"""Values of a reference, the newest, from which a detector starts."""

_BINARY = "river.drift.binary."


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a detector has come in its stream.

    ``seen`` counts the values it was given, ``skipped`` those that were missing or infinite
    and that it was not given, ``alarms`` how often it found a drift.

    Examples
    --------
    >>> from keepfit.drift.streaming import PageHinkley
    >>> detector = PageHinkley(threshold=5)
    >>> state, places = detector.advance(None, [0.0] * 50 + [float("nan")] + [1.0] * 50)
    >>> detector.progress(state)
    Progress(seen=100, skipped=1, alarms=1)
    """

    seen: int = 0
    skipped: int = 0
    alarms: int = 0


class _State(msgspec.Struct, frozen=True, kw_only=True):
    detector: str
    progress: Progress
    pickled: bytes


@dataclass(frozen=True, repr=False)
class Following(Part, ABC):
    """Base of the detectors that follow a stream: pure steps from state to state.

    Parameters
    ----------
    on
        What to follow: ``"loss"``, ``"score"``, or the name of a column of numbers.
    """

    _: KW_ONLY
    on: str = "loss"

    def advance(self, state: bytes | None, values: Sequence[float]) -> tuple[bytes, list[int]]:
        """Follow values further; return the new state and the places at which drift was found.

        A stream gives the same alarms however it is cut into calls. Values that are missing
        or infinite are skipped and counted.

        Parameters
        ----------
        state
            What the last call returned; None to begin.
        values
            The next values of the stream, in order of time.

        Raises
        ------
        ConfigError
            The state is another detector's, or a detector of errors got a value that is
            neither 0 nor 1.
        ExtraMissing
            The package `river` is not installed.
        ArtifactCorrupt
            The state holds what no detector of River's consists of.
        """
        detector, progress = self._begin() if state is None else self._go_on(state)
        binary = type(detector).__module__.startswith(_BINARY)
        seen, skipped, places = 0, 0, []
        for place, value in enumerate(map(float, values)):
            if not math.isfinite(value):
                skipped += 1
                continue
            seen += 1
            if binary:
                self._assert_error(value, place)
            detector.update(bool(value) if binary else value)
            if detector.drift_detected:
                places.append(place)
        progress = Progress(
            seen=progress.seen + seen,
            skipped=progress.skipped + skipped,
            alarms=progress.alarms + len(places),
        )
        made = _State(detector=self._text, progress=progress, pickled=pickled.dumps(detector))
        return msgspec.msgpack.encode(made), places

    def progress(self, state: bytes) -> Progress:
        """Return how many values a state has seen and skipped, and how many alarms it gave."""
        return self._read(state).progress

    def fit(self, rows: pl.DataFrame) -> bytes:
        """Return the state after the newest 10,000 values of a reference's column.

        For ``on="loss"`` and ``"score"``, which rows do not hold, it is that of the beginning.
        """
        values = self.values(rows)
        return self.advance(None, [] if values is None else values[-WARM:])[0]

    def check(self, reference: Any, rows: pl.DataFrame) -> Sequence[ColumnDrift]:
        """Follow a batch's column from the reference's state, and count the alarms.

        The value is the number of alarms, which drift takes one of. Every batch starts from
        the reference. Rows are followed in order of their time. There is nothing to say for
        ``on="loss"`` and ``"score"``, and without a state: the reference's part that has
        this detector's name.
        """
        parts: Mapping[str, bytes] = getattr(reference, "parts", None) or {}
        state = parts.get(self.name)
        if state is None or self.on in STREAMS or not rows.height:
            return ()
        values = self.values(rows)
        if values is None or (self.progress(state).seen and not any(map(math.isfinite, values))):
            return (ColumnDrift(column=self.on, method="missing", value=1.0, limit=0.5),)
        alarms = len(self.advance(state, values)[1])
        return (ColumnDrift(column=self.on, method=self._method, value=float(alarms), limit=0.5),)

    @abstractmethod
    def _fresh(self) -> Any:
        """Return River's detector, which has seen nothing."""

    @property
    @abstractmethod
    def _text(self) -> str:
        """The detector with its parameters, without what it follows."""

    @property
    def _method(self) -> str:
        return type(self).__name__

    def _begin(self) -> tuple[Any, Progress]:
        self._assert_river()
        return self._fresh(), Progress()

    def _go_on(self, state: bytes) -> tuple[Any, Progress]:
        kept = self._read(state)
        if kept.detector != self._text:
            raise ConfigError(
                f"expected the state of {self._text}, got that of {kept.detector}",
                hint="a detector with other parameters begins anew: advance(None, values)",
            )
        self._assert_river()
        return pickled.loads(kept.pickled), kept.progress

    def _read(self, state: bytes) -> _State:
        try:
            return msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise ArtifactCorrupt(f"{self.name}: expected a state of its own: {error}") from None

    def _assert_river(self) -> None:
        try:
            import river.drift  # noqa: F401 - opening a state needs it too
        except ImportError:
            raise ExtraMissing(
                f"expected the package `river` for {self.name}, and it is not installed",
                hint='pip install "keepfit[river]"',
            ) from None

    def _assert_error(self, value: float, place: int) -> None:
        if value not in (0.0, 1.0):
            raise ConfigError(
                f"{self.name}: expected errors of 0 or 1, got {value!r} at place {place}",
                hint="ADWIN, KSWIN and PageHinkley follow numbers",
            )

    def values(self, rows: pl.DataFrame) -> list[float] | None:
        """Return the column in order of time; None without such a column of numbers."""
        import polars as pl

        if self.on in STREAMS or self.on not in rows.columns:
            return None
        if kind_of(rows.schema[self.on]) not in ("number", "boolean"):
            return None
        if TIME in rows.columns:
            rows = rows.sort(TIME, maintain_order=True)
        values = rows.get_column(self.on)
        plain = values.cast(pl.Int8) if values.dtype == pl.Boolean else values
        found: list[float] = floats(plain).tolist()
        return found
