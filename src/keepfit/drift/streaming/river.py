"""River's detectors: any of them as it is, and the known ones by name."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from keepfit.drift.streaming.following import Following
from keepfit.errors import ConfigError
from keepfit.parts import written


@dataclass(frozen=True, repr=False)
class Stream(Following):
    """Any drift detector of River's, taken as it is.

    A stream begins with the detector's parameters, without what it may have seen. Its state
    is opened again only if it consists of River's own classes.

    Parameters
    ----------
    detector
        A detector of ``river.drift`` or ``river.drift.binary``.

    Examples
    --------
    >>> from river.drift import binary
    >>> Stream(binary.FHDDM(confidence_level=0.001), on="late")
    Stream(FHDDM(confidence_level=0.001), on="late")
    """

    detector: Any

    def __post_init__(self) -> None:
        made = type(self.detector)
        if not made.__module__.startswith("river.drift") or not hasattr(made, "update"):
            raise ConfigError(
                f"Stream: expected a detector of river.drift, got {made.__module__}.{made.__name__}",
                hint="its state could not be opened safely; "
                "a detector of your own has a method check(reference, rows)",
            )
        _assert_seed(made.__name__, getattr(self.detector, "seed", 0))

    def __repr__(self) -> str:
        on = "" if self.on == "loss" else f", on={written(self.on)}"
        return f"Stream({self._text}{on})"

    def _fresh(self) -> Any:
        return type(self.detector)(**self._parameters)

    @property
    def _parameters(self) -> dict[str, Any]:
        """What River's class was called with, where that is not its default."""
        known = inspect.signature(type(self.detector)).parameters.values()
        given = {one.name: getattr(self.detector, one.name, one.default) for one in known}
        # KSWIN calls what it has seen `window`, as the parameter that it may begin with.
        return {
            one.name: given[one.name]
            for one in known
            if one.name != "window" and given[one.name] != one.default
        }

    @property
    def _text(self) -> str:
        shown = ", ".join(f"{name}={written(value)}" for name, value in self._parameters.items())
        return f"{self._method}({shown})"

    @property
    def _method(self) -> str:
        return type(self.detector).__name__


@dataclass(frozen=True, repr=False)
class _Named(Following):
    """Base of River's detectors by name, whose fields are River's parameters.

    River is imported when a stream begins, so that a pipeline can be read without it.
    """

    _river: ClassVar[tuple[str, str]]
    """The module and the name of River's class."""

    def _fresh(self) -> Any:
        from importlib import import_module

        module, name = self._river
        return getattr(import_module(module), name)(**self._parameters)

    @property
    def _parameters(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "on"}

    @property
    def _text(self) -> str:
        shown = ", ".join(f"{name}={written(value)}" for name, value in self._parameters.items())
        return f"{self._method}({shown})"

    def _assert_within(self, low: float, high: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not low < value < high:
                raise ConfigError(
                    f"{self._method}: expected {name} between {low:g} and {high:g}, got {value!r}"
                )

    def _assert_counts(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"{self._method}: expected {name} to be a whole number from 1, got {value!r}"
                )


@dataclass(frozen=True, repr=False)
class ADWIN(_Named):
    """Adaptive windowing: keeps as many of the newest values as have one mean.

    An alarm is a window that had to be cut. The chance of a false one is bounded by
    ``delta`` for each test; the tests come every ``clock`` values.

    Examples
    --------
    >>> state, places = ADWIN().advance(None, [0.1, 0.3] * 200 + [0.7, 0.9] * 200)
    >>> places
    [447]

    References
    ----------
    Bifet and Gavaldà, Learning from time-changing data with adaptive windowing (2007).
    """

    delta: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10

    _river: ClassVar[tuple[str, str]] = ("river.drift", "ADWIN")

    def __post_init__(self) -> None:
        self._assert_within(0, 1, "delta")
        self._assert_counts("clock", "max_buckets", "min_window_length", "grace_period")


@dataclass(frozen=True, repr=False)
class KSWIN(_Named):
    """Kolmogorov-Smirnov on a sliding window: the newest values against a draw of older ones.

    ``alpha`` is the level of the test of every value, so that on a stream that does not
    change an alarm comes after a few times 1/alpha values. A value costs about half a
    millisecond, a thousand times what the others cost.

    Examples
    --------
    >>> state, places = KSWIN(alpha=0.0001).advance(None, [0.1, 0.3] * 60 + [0.7] * 30)
    >>> len(places)
    1

    References
    ----------
    Raab, Heusinger and Schleif, Reactive soft prototype computing for concept drift streams
    (2020).
    """

    alpha: float = 0.005
    window_size: int = 100
    stat_size: int = 30
    seed: int = 0

    _river: ClassVar[tuple[str, str]] = ("river.drift", "KSWIN")

    def __post_init__(self) -> None:
        self._assert_within(0, 1, "alpha")
        self._assert_counts("window_size", "stat_size")
        if 2 * self.stat_size > self.window_size:
            raise ConfigError(
                f"KSWIN: expected a window of twice stat_size={self.stat_size} or more, "
                f"got window_size={self.window_size}"
            )
        _assert_seed("KSWIN", self.seed)


@dataclass(frozen=True, repr=False)
class PageHinkley(_Named):
    """Page-Hinkley: the sum of what values deviate from their mean, beyond ``delta`` each.

    ``delta`` and ``threshold`` are in the unit of the values.

    Examples
    --------
    >>> state, places = PageHinkley(threshold=5).advance(None, [0.1, 0.3] * 50 + [0.9] * 50)
    >>> places
    [107]

    References
    ----------
    Page, Continuous inspection schemes (1954).
    """

    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 1 - 0.0001
    mode: str = "both"

    _river: ClassVar[tuple[str, str]] = ("river.drift", "PageHinkley")

    def __post_init__(self) -> None:
        self._assert_counts("min_instances")
        self._assert_within(0, math.inf, "threshold")
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"PageHinkley: expected alpha above 0 up to 1, got {self.alpha!r}")
        if self.mode not in ("up", "down", "both"):
            raise ConfigError(f"PageHinkley: expected mode up, down or both, got {self.mode!r}")


@dataclass(frozen=True, repr=False)
class DDM(_Named):
    """Drift detection method: a rate of errors that rises above its least.

    Follows errors, 0 or 1. The thresholds count standard errors.

    Examples
    --------
    >>> state, places = DDM().advance(None, [0, 0, 0, 0, 1] * 40 + [1, 1, 0] * 40)
    >>> len(places)
    1

    References
    ----------
    Gama, Medas, Castillo and Rodrigues, Learning with drift detection (2004).
    """

    warm_start: int = 30
    warning_threshold: float = 2.0
    drift_threshold: float = 3.0

    _river: ClassVar[tuple[str, str]] = ("river.drift.binary", "DDM")

    def __post_init__(self) -> None:
        self._assert_counts("warm_start")
        self._assert_within(0, math.inf, "warning_threshold", "drift_threshold")


@dataclass(frozen=True, repr=False)
class EDDM(_Named):
    """Early drift detection method: errors that come closer to each other.

    Follows errors, 0 or 1; made for changes that come slowly. A drift is where the mean
    distance of errors falls below ``beta`` times its highest.

    Examples
    --------
    >>> rare = ([0] * 9 + [1]) * 10 + ([0] * 19 + [1]) * 25
    >>> state, places = EDDM().advance(None, rare + [1, 1, 0] * 200)
    >>> len(places)
    1

    References
    ----------
    Baena-García et al., Early drift detection method (2006).
    """

    warm_start: int = 30
    alpha: float = 0.95
    beta: float = 0.9

    _river: ClassVar[tuple[str, str]] = ("river.drift.binary", "EDDM")

    def __post_init__(self) -> None:
        self._assert_counts("warm_start")
        self._assert_within(0, 1, "alpha", "beta")
        if self.alpha < self.beta:
            raise ConfigError(
                f"EDDM: expected alpha not below beta={self.beta!r}, got {self.alpha!r}"
            )


@dataclass(frozen=True, repr=False)
class HDDM_A(_Named):  # noqa: N801 - its name in the field
    """Hoeffding's bound on the mean of errors: best where a change is sudden.

    Follows errors, 0 or 1, upwards; ``two_sided_test`` also downwards.

    Examples
    --------
    >>> state, places = HDDM_A().advance(None, [0, 0, 0, 0, 1] * 40 + [1, 1, 0] * 40)
    >>> len(places)
    1

    References
    ----------
    Frías-Blanco et al., Online and non-parametric drift detection methods based on
    Hoeffding's bounds (2015).
    """

    drift_confidence: float = 0.001
    warning_confidence: float = 0.005
    two_sided_test: bool = False

    _river: ClassVar[tuple[str, str]] = ("river.drift.binary", "HDDMA")

    def __post_init__(self) -> None:
        self._assert_within(0, 1, "drift_confidence", "warning_confidence")


@dataclass(frozen=True, repr=False)
class HDDM_W(_Named):  # noqa: N801 - its name in the field
    """McDiarmid's bound on a weighted mean of errors: best where a change comes slowly.

    Follows errors, 0 or 1, upwards; ``two_sided_test`` also downwards. ``lambda_val`` is the
    weight of the newest value.

    Examples
    --------
    >>> state, places = HDDM_W().advance(None, [0, 0, 0, 0, 1] * 40 + [1, 1, 0] * 40)
    >>> len(places)
    1

    References
    ----------
    Frías-Blanco et al., Online and non-parametric drift detection methods based on
    Hoeffding's bounds (2015).
    """

    drift_confidence: float = 0.001
    warning_confidence: float = 0.005
    lambda_val: float = 0.05
    two_sided_test: bool = False

    _river: ClassVar[tuple[str, str]] = ("river.drift.binary", "HDDMW")

    def __post_init__(self) -> None:
        self._assert_within(0, 1, "drift_confidence", "warning_confidence", "lambda_val")


def _assert_seed(name: str, seed: int | None) -> None:
    if seed is None:
        raise ConfigError(
            f"{name}: expected a seed, because it draws at random, got None",
            hint=f"the same stream must give the same alarms: {name}(seed=0)",
        )
