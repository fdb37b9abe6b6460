"""The trigger that watches the champion's realised performance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import NamedTuple

from keepfit.clock import count_rate
from keepfit.errors import ConfigError
from keepfit.facts import Decision, Estimated, Scored
from keepfit.protocols import Evidence
from keepfit.triggers.joins import Rule

_LEARNED = 4
"""Windows that make a promise where the gate made none."""

_SPREAD = 3
"""Windows after which their own spread is known."""

_BETS = (0.25, 0.5, 0.9)
"""Shares of the greatest stake; each suits another size of decay."""

_SCALE = 2.0
"""Spreads that one unit of a window's score holds."""

_BELIEVED = 0.5
"""The trust below which an estimate does not stand in for a window."""

_WORST = 2.0
"""Units that a window can count against the champion: one freak window is no decay."""

_Z95 = 1.96

_FAR = 3.0
"""Margins and spreads below an earlier promise from which a new champion has not made good."""

_RAISED = 16.0
"""Times the sum that an alarm asks of the next where the promise was learnt from few windows and is
not missed by far: it may have been luck. Elsewhere it is twice the sum."""

_TRIES = 3
"""Alarms at an earlier champion's promise that are as quick as others."""


@dataclass(frozen=True, repr=False)
class OnDecay(Rule):
    """Train when the champion does worse than it promised, by a sequential test.

    Evidence adds up over the windows scored since the last training in an e-detector: for
    every window a bet against "the mean is no worse than promised less the margin" wins or
    loses, and the trigger says yes when the Shiryaev-Roberts sum of the bets reaches the
    number of windows in which one false alarm is acceptable. Windows better than promised
    by more than two spreads count as that and no more; a window's spread comes from its
    interval and from the windows before it. Windows that depend on their neighbours beyond
    what the promise's margin covers alarm more often.

    While labels are late, a window's estimated value stands in until the realised one comes,
    as far as it is trusted, and the decision says how many windows are estimates.

    The promise is the champion's value at its gate. A champion that passed without one
    promises the mean of its first four windows less their standard error, and the decision
    calls it provisional. Nothing takes a promise back while its champion serves: where a
    training brought no other, the alarm is raised again once new windows show decay, each time
    at twice the sum, and at more where that may be for lucky first windows. A champion that
    came after an alarm and is far below what was promised before (by three margins and
    spreads) is held to that promise: three times as soon as windows show it, then no more
    often than false alarms are acceptable, because nothing better may be possible.

    Parameters
    ----------
    margin
        How much worse than promised is still as promised; None for 0.01 where the metric
        is at most 1 and greater is better, and 2 % of the promise elsewhere.
    alarms
        How often a false alarm is acceptable, on data that does not change.

    Raises
    ------
    ConfigError
        The margin is negative, or the alarms are not a count per length of time.

    Examples
    --------
    >>> OnDecay(), OnDecay(0.02, alarms="1 per 30d")
    (OnDecay(), OnDecay(0.02, alarms="1 per 30d"))

    References
    ----------
    Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
    detection (2022); Waudby-Smith and Ramdas, Estimating means of bounded random variables
    by betting (2020).
    """

    margin: float | None = None
    alarms: str = field(default="1 per 90d", kw_only=True)

    def __post_init__(self) -> None:
        if self.margin is not None and not 0.0 <= self.margin < math.inf:
            raise ConfigError(f"OnDecay: expected a margin of zero or more, got {self.margin!r}")
        count_rate(self.alarms, "OnDecay: alarms")

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        windows = _windows(evidence)
        alarms = list(_alarms(evidence.asked, self.name))
        own = _promise(evidence, windows, alarms)
        if evidence.champion is None or own is None:
            return self._waiting(evidence, len({w.batch for w in windows} | {*evidence.first}))
        promise = self._standing(evidence, own, alarms)
        margin = self._margin(promise.value, evidence.greater_is_better)
        judged = [window for window in windows if window.batch not in promise.learnt]
        least = self._threshold(windows)
        spread = _spread(windows, evidence.first)
        mean = statistics.fmean(window.value for window in judged) if judged else promise.value
        short = promise.value - mean if evidence.greater_is_better else mean - promise.value
        lucky = bool(promise.learnt) and short <= _FAR * (margin + spread)
        threshold = least * (_RAISED if lucky else 2.0) ** len(alarms)
        bar = promise.value - margin if evidence.greater_is_better else promise.value + margin
        detector = _Detector(bar, margin, evidence.greater_is_better)
        sum_of_bets = detector.run(windows, skip=promise.learnt)
        wait = math.ceil(least) if promise.tries >= _TRIES else 1
        train = len(judged) >= wait and sum_of_bets >= threshold
        return Decision(
            train=train,
            trigger=self.name,
            reason=self._reason(judged, promise, margin, train),
            evidence={
                "promised": promise.value,
                "provisional": bool(promise.learnt),
                "margin": margin,
                "windows": len(judged),
                "estimated": sum(window.estimated for window in judged),
                "value": None if not judged else judged[-1].value,
                "sum": sum_of_bets,
                "threshold": threshold,
                "alarms": len(alarms),
                "tries": promise.tries,
                "spread": spread,
                "own": own.value,
                "before": promise.before,
            },
        )

    def _standing(self, evidence: Evidence, own: _Promise, alarms: Sequence[Decision]) -> _Promise:
        """Return the champion's own promise; or the one before's, where it is far below that."""
        earlier = list(_alarms(evidence.asked_before, self.name))
        if not earlier:
            return own
        last = earlier[-1]
        before: float = last.evidence["promised"]
        margin = self._margin(before, evidence.greater_is_better)
        short = before - own.value if evidence.greater_is_better else own.value - before
        if short <= _FAR * (margin + last.evidence.get("spread", 0.0)):
            return own
        tries = last.evidence.get("tries", 0) + len(alarms)
        # The alarm that ended the reign before was a try where it was at an earlier promise too.
        tries += bool(last.evidence.get("before"))
        return _Promise(before, own.learnt, before=True, tries=tries)

    def _waiting(self, evidence: Evidence, windows: int) -> Decision:
        reason = "no champion yet"
        if evidence.champion is not None:
            reason = f"learning what {evidence.champion} promises: {windows} of {_LEARNED} windows"
        return Decision(
            train=False, trigger=self.name, reason=reason, evidence={"windows": windows}
        )

    def _reason(
        self, judged: Sequence[_Window], promise: _Promise, margin: float, train: bool
    ) -> str:
        promised = f"promised {promise.value:.3f} with a margin of {margin:.3f}"
        if promise.before:
            promised += " (by the champion before)"
        elif promise.learnt:
            promised += f" (provisional, from the first {len(promise.learnt)} windows)"
        if not judged:
            return f"no window scored since the last training; {promised}"
        latest = judged[-_LEARNED:]
        mean = statistics.fmean(window.value for window in latest)
        name, few, all_ = latest[-1].metric, len(latest), len(judged)
        told = f"{name} {mean:.3f} in the latest {few} of {all_} windows"
        guessed = sum(window.estimated for window in latest)
        told += f" ({guessed} of them estimated)" if guessed else ""
        return f"{'decayed' if train else 'no decay'}: {told}, {promised}"

    def _margin(self, promised: float, greater_is_better: bool) -> float:
        if self.margin is not None:
            return self.margin
        return 0.01 if greater_is_better and abs(promised) <= 1 else 0.02 * abs(promised)

    def _threshold(self, windows: Sequence[_Window]) -> float:
        """Return the windows in which one false alarm is acceptable.

        The sum of bets is at most n on average after n windows, hence the mean time to
        reach a threshold is no shorter than that threshold.
        """
        alarms, period = count_rate(self.alarms, "OnDecay: alarms")
        return max(2.0, period / _spacing(windows) / alarms)


class _Window(NamedTuple):
    batch: int
    metric: str
    value: float
    error: float | None
    start: float | None
    end: float | None
    estimated: bool = False


class _Promise(NamedTuple):
    value: float
    learnt: frozenset[int] = frozenset()
    """Batches of the windows it was learnt from; none when the gate made it."""
    before: bool = False
    """Whether it is a champion's before, of which this one has fallen short."""
    tries: int = 0
    """Alarms so far at the promise of a champion before."""


@dataclass(frozen=True)
class _Detector:
    """A Shiryaev-Roberts e-detector over a mixture of bets on bounded scores."""

    bar: float
    margin: float
    greater_is_better: bool

    def run(self, windows: Sequence[_Window], *, skip: frozenset[int] = frozenset()) -> float:
        """Return the sum of bets after all windows; those skipped only teach the spread."""
        sums = [0.0] * len(_BETS)
        for window, spread in _spreads(windows):
            if window.batch in skip:
                continue
            score = 0.0 if spread is None else self._score(window.value, spread)
            # A sum beyond any threshold is cut, so that it stays a number in the ledger.
            sums = [min((s + 1) * (1 + b * score), 1e12) for s, b in zip(sums, _BETS, strict=True)]
        return statistics.fmean(sums)

    def _score(self, value: float, spread: float) -> float:
        """Return how much worse than the bar a window is, from -1 to `_WORST` units.

        Greater stakes need a bound on how good a window can be: a metric that ends at 1,
        or a loss that ends at 0, or else two spreads above the promise.
        """
        worse = self.bar - value if self.greater_is_better else value - self.bar
        unit = self.margin + _SCALE * spread
        best = self._best()
        if best is not None:
            unit = min(unit, best)
        return min(max(worse / max(unit, 1e-12), -1.0), _WORST)

    def _best(self) -> float | None:
        """Return how much better than the bar a window can be, where the metric says so."""
        if not self.greater_is_better:
            return self.bar if self.bar >= 0 else None
        return 1 - self.bar if abs(self.bar) <= 1 else None


def _windows(evidence: Evidence) -> list[_Window]:
    """Return the champion's windows since the last training; of one scored twice, the latest.

    An estimate stands in for a window that has not been scored; one that is hardly trusted
    does not.
    """
    scored: dict[int, Scored | Estimated] = {}
    for fact in evidence.facts:
        if not isinstance(fact, Scored | Estimated) or fact.version != evidence.champion:
            continue
        if isinstance(fact, Estimated) and (fact.batch in scored or fact.trust < _BELIEVED):
            continue
        scored[fact.batch] = fact
    found = (_window(scored[batch]) for batch in sorted(scored))
    return [window for window in found if window is not None]


def _window(fact: Scored | Estimated) -> _Window | None:
    if fact.value is None or not math.isfinite(fact.value):
        return None
    error = None
    if fact.low is not None and fact.high is not None and math.isfinite(fact.high - fact.low):
        error = max(0.0, fact.high - fact.low) / (2 * _Z95)
        if isinstance(fact, Estimated):
            # What is half believed is taken as twice as uncertain.
            error /= fact.trust
    return _Window(
        batch=fact.batch,
        metric=fact.metric,
        value=fact.value,
        error=error,
        start=None if fact.from_ is None else fact.from_.timestamp(),
        end=None if fact.to is None else fact.to.timestamp(),
        estimated=isinstance(fact, Estimated),
    )


def _alarms(asked: Iterable[Decision], name: str) -> Iterator[Decision]:
    """Yield what a trigger of this name said in decisions to train, where it said yes."""
    for decision in asked:
        if decision.trigger == name and decision.train and "promised" in decision.evidence:
            yield decision
        yield from _alarms(decision.parts, name)


def _promise(
    evidence: Evidence, windows: Sequence[_Window], alarms: Sequence[Decision]
) -> _Promise | None:
    """Return what the champion itself promised; of its first windows those realised, if they can be."""
    if evidence.promised is not None and math.isfinite(evidence.promised):
        return _Promise(evidence.promised)
    values = {window.batch: window.value for window in windows} | dict(evidence.first)
    if len(evidence.first) >= _LEARNED:
        values = dict(evidence.first)
    elif alarms:
        said = alarms[-1].evidence
        return _Promise(said.get("own", said["promised"]), frozenset(evidence.first))
    if len(values) < _LEARNED:
        return None
    first = dict(sorted(values.items())[:_LEARNED])
    error = statistics.stdev(first.values()) / math.sqrt(_LEARNED)
    # A promise learnt from luck would be broken by chance: it is lowered by its own error.
    worse = -error if evidence.greater_is_better else error
    return _Promise(statistics.fmean(first.values()) + worse, frozenset(first))


def _spread(windows: Sequence[_Window], first: Mapping[int, float]) -> float:
    """Return how far windows lie from each other by chance: by their intervals, and at first."""
    errors = [window.error for window in windows if window.error is not None]
    apart = statistics.stdev(first.values()) if len(first) >= _SPREAD else 0.0
    return max(statistics.median(errors) if errors else 0.0, apart)


def _spreads(windows: Sequence[_Window]) -> Iterator[tuple[_Window, float | None]]:
    """Yield each window with the spread to expect of it, from its interval and the past."""
    mean, squares = 0.0, 0.0
    for past, window in enumerate(windows):
        seen = math.sqrt(squares / (past - 1)) if past >= _SPREAD else None
        known = [spread for spread in (seen, window.error) if spread is not None]
        yield window, max(known, default=None)
        # Welford's running variance (1962).
        step = window.value - mean
        mean += step / (past + 1)
        squares += step * (window.value - mean)


def _spacing(windows: Sequence[_Window]) -> timedelta:
    """Return the usual time from one window to the next; a day where nothing tells."""
    ends = sorted(window.end for window in windows if window.end is not None)
    steps = [later - sooner for sooner, later in pairwise(ends) if later > sooner]
    lengths = [w.end - w.start for w in windows if w.end is not None and w.start is not None]
    seconds = statistics.median(steps) if steps else max(lengths, default=0.0)
    return timedelta(seconds=seconds) if seconds > 0 else timedelta(days=1)
