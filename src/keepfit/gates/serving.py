"""Gates on what it takes to serve a challenger: its time, its file, and that it loads elsewhere."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from keepfit.errors import ConfigError
from keepfit.facts import Answer, Verdict
from keepfit.gates.paired import is_number, plain
from keepfit.parts import Part
from keepfit.protocols import Comparison, Footprint


class _Serving(Part):
    """Base of the gates that look at a challenger's footprint, once, before it is released."""

    live: ClassVar[bool] = False

    def judge(self, comparison: Comparison) -> Verdict:
        """Return promote or refuse with the figure; not enough evidence where none is known."""
        from keepfit.metrics.evidence import finite_rows

        if not finite_rows(comparison.challenger).all():
            return self._verdict(Answer.REFUSE, "scores that are not finite")
        if not len(comparison.labels):
            return self._verdict(Answer.NOT_ENOUGH, "no rows to ask it about")
        if comparison.footprint is None:
            return self._verdict(Answer.NOT_ENOUGH, "the model itself is not at hand")
        champion = None if comparison.champion is None else comparison.champion_footprint
        return self._judged(comparison.footprint, champion)

    def _judged(self, own: Footprint, champion: Footprint | None) -> Verdict:
        raise NotImplementedError

    def _verdict(self, answer: Answer, reason: str, value: float | None = None) -> Verdict:
        return Verdict(gate=self.name, answer=answer, reason=reason, value=value)

    def _bounded(self, said: str, allowed: str, value: float, most: float) -> Verdict:
        """Return whether a figure is at most what is allowed, in words that name both."""
        answer = Answer.PROMOTE if value <= most else Answer.REFUSE
        return self._verdict(answer, f"{said}, {allowed} allowed", value)


@dataclass(frozen=True, repr=False)
class FasterThan(_Serving):
    """Refuse a challenger that takes too long to answer.

    Rows of the holdout are answered again and again in the process of the loop, by challenger and
    champion in turns, and the quickest time of each counts: what is slower than that, other work
    of the machine was (the rule of Python's `timeit`). The server has quicker ways with single
    rows for some libraries, so its own answers take no longer; how late they come there, a
    rollout watches. A backtest times nothing, so that it says the same each time, and lets pass.

    Parameters
    ----------
    seconds
        The most it may take.
    times
        The most it may take in times of what the champion takes; one of the two is given.
    rows
        How many rows are asked about at once.

    Raises
    ------
    ConfigError
        Neither bound is given, or both, or an argument is out of its range.

    Examples
    --------
    >>> FasterThan(0.005).name
    'Answers 1 row in at most 5 ms'
    >>> FasterThan(times=1.5, rows=1_000).name
    "Answers 1,000 rows in at most 1.5 times the champion's time"
    """

    seconds: float | None = None
    _: KW_ONLY
    times: float | None = None
    rows: int = 1

    def __post_init__(self) -> None:
        _one_of(self, "seconds", self.seconds, self.times)
        if not _is_whole(self.rows):
            raise ConfigError(
                f"FasterThan: expected rows to be a whole number from 1, got {self.rows!r}"
            )

    @property
    def name(self) -> str:
        """The gate with its bound."""
        asked = f"Answers {_rows(self.rows)} in at most"
        if self.seconds is not None:
            return f"{asked} {_time(self.seconds)}"
        return f"{asked} {self.times:g} times the champion's time"

    def _judged(self, own: Footprint, champion: Footprint | None) -> Verdict:
        took = own.seconds(self.rows)
        if took is None:
            return self._verdict(Answer.PROMOTE, "not timed: a backtest has no stopwatch")
        if self.seconds is not None:
            return self._bounded(
                f"{_time(took)} for {_rows(self.rows)}", _time(self.seconds), took, self.seconds
            )
        assert self.times is not None
        theirs = None if champion is None else champion.seconds(self.rows)
        if not theirs:
            known = "no champion yet" if champion is None else "the champion answers no row"
            return self._verdict(Answer.PROMOTE, known)
        said = (
            f"{_time(took)} for {_rows(self.rows)}, {plain(took / theirs)} times "
            f"the champion's {_time(theirs)}"
        )
        return self._bounded(said, f"{self.times:g} times", took / theirs, self.times)


@dataclass(frozen=True, repr=False)
class SmallerThan(_Serving):
    """Refuse a challenger whose file is too large.

    Trees that are added to the champion's with each warm start, or a vocabulary that only grows,
    make a model larger from version to version, and nobody notices before a worker runs out of
    memory. What is measured is the artifact as it is stored.

    Parameters
    ----------
    bytes
        The most its file may hold.
    times
        The most in times of the champion's file; one of the two is given.

    Raises
    ------
    ConfigError
        Neither bound is given, or both, or one is not above zero.

    Examples
    --------
    >>> SmallerThan(50_000_000).name
    'At most 50,000,000 bytes'
    >>> SmallerThan(times=2).name
    "At most 2 times the champion's bytes"
    """

    bytes: int | None = None
    _: KW_ONLY
    times: float | None = None

    def __post_init__(self) -> None:
        _one_of(self, "bytes", self.bytes, self.times)

    @property
    def name(self) -> str:
        """The gate with its bound."""
        if self.bytes is not None:
            return f"At most {self.bytes:,} bytes"
        return f"At most {self.times:g} times the champion's bytes"

    def _judged(self, own: Footprint, champion: Footprint | None) -> Verdict:
        size = own.size()
        if self.bytes is not None:
            return self._bounded(f"{size:,} bytes", f"{self.bytes:,}", size, self.bytes)
        assert self.times is not None
        theirs = 0 if champion is None else champion.size()
        if not theirs:
            return self._verdict(Answer.PROMOTE, "no champion yet")
        said = f"{size:,} bytes, {plain(size / theirs)} times the champion's {theirs:,}"
        return self._bounded(said, f"{self.times:g} times", size / theirs, self.times)


@dataclass(frozen=True, repr=False)
class Loads(_Serving):
    """Refuse a challenger that another process cannot load, or that answers otherwise there.

    A model that holds something of the process which trained it (a module that only it can
    import, a handle, a cache) answers well until somebody else loads it. So a process
    that has imported nothing of the user's loads the stored file and answers rows of the holdout,
    and must say the same as this one. It costs the start of a process, a second or two. `keepfit
    serve` tries each champion in such a process too, after the gate; here it is not promoted.

    Parameters
    ----------
    seconds
        How long the process may take, its start included.

    Raises
    ------
    ConfigError
        The time is not above zero.

    Examples
    --------
    >>> Loads().name
    'Loads in a clean process within 60 s'
    """

    seconds: float = 60.0

    def __post_init__(self) -> None:
        _above_zero(self, "seconds", self.seconds)

    @property
    def name(self) -> str:
        """The gate with its time."""
        return f"Loads in a clean process within {self.seconds:g} s"

    def _judged(self, own: Footprint, champion: Footprint | None) -> Verdict:
        trouble = own.trouble(self.seconds)
        if trouble:
            return self._verdict(Answer.REFUSE, trouble)
        return self._verdict(Answer.PROMOTE, "loaded, and answers as here")


def _one_of(gate: Part, what: str, bound: Any, times: Any) -> None:
    kind = type(gate).__name__
    if (bound is None) == (times is None):
        raise ConfigError(
            f"{kind}: expected one of {what} and times, got {what}={bound!r} and times={times!r}",
            hint=f"gates.{kind}(times=1.5) holds it against the champion",
        )
    if what == "bytes" and bound is not None and not _is_whole(bound):
        raise ConfigError(f"{kind}: expected bytes to be a whole number from 1, got {bound!r}")
    _above_zero(gate, what if times is None else "times", bound if times is None else times)


def _above_zero(gate: Part, what: str, value: Any) -> None:
    if not (is_number(value) and value > 0):
        raise ConfigError(
            f"{type(gate).__name__}: expected {what} to be a number above zero, got {value!r}"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1_000 * seconds:.3g} ms"
