"""Gates on the metric: challenger against champion, over blocks of time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from msgspec.structs import replace as replaced

from keepfit.clock import duration
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Verdict
from keepfit.metrics import value_of
from keepfit.parts import Part
from keepfit.protocols import Comparison, Metric

if TYPE_CHECKING:
    from keepfit.metrics.evidence import Group

ALONE = 500
"""Rows that a slice needs to be judged alone; smaller ones are judged together."""

HOLDOUT = 0.2
SEVERITY = {Answer.PROMOTE: 0, Answer.NOT_ENOUGH: 1, Answer.REFUSE: 2}


@dataclass(frozen=True, repr=False)
class Measured(Part):
    """Base of the gates that compare a bound of the metric with what is needed.

    Evidence: the rows are cut into at most 64 blocks that follow each other in time. The
    gain is the difference of the two models' values on all rows, and each row has its part in
    it: the difference of its losses; or, where the metric is no mean over rows (roc_auc,
    average_precision, f1, balanced_accuracy), how far it pulls the value, as DeLong, DeLong and
    Clarke-Pearson (1988) have it for areas, a block then holding four rows of the rarer class or
    more. Of a metric of your own without ``contributions`` the gain is the mean of its
    differences on blocks instead. The t interval is that of blocks, and grows with the
    autocorrelation measured between them (`keepfit.metrics.series`). It is assumed that gains
    are stationary and that their memory is short beside the holdout, below an eighth of it;
    with fewer than ``min_blocks`` effective blocks the answer is *not enough evidence*.

    Level: 1 - ``level`` is the most that wrong promotions may come to. The first look at a
    challenger spends half of it, the next half of what is left, the last all of it; the
    shares add up, so they hold however looks depend on each other. What is shown at one look
    stays shown while another gate makes the challenger wait, as long as no later look shows
    the opposite: that spends nothing more. The challengers of a turn divide it evenly. All
    slices must pass, which spends nothing more (Berger 1982); refusing for the worst of
    several slices divides the level by their number.
    """

    _: KW_ONLY
    slice: str | None = None
    level: float = 0.7
    holdout: float | str = HOLDOUT
    min_blocks: int = 8
    looks: int = 5

    paired: ClassVar[bool] = True

    def __post_init__(self) -> None:
        kind = type(self).__name__
        column: Any = self.slice
        if column is not None and (not isinstance(column, str) or not column):
            raise ConfigError(f"{kind}: expected slice to be a column, got {column!r}")
        if not (is_number(self.level) and 0.5 <= self.level < 1):
            raise ConfigError(f"{kind}: expected a level from 0.5 to below 1, got {self.level!r}")
        # Blocks are joined down to 16 to see slow changes, so no more can be asked for.
        for what, least, most in (("min_blocks", 2, 16), ("looks", 1, 100)):
            value = getattr(self, what)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not least <= value <= most:
                raise ConfigError(
                    f"{kind}: expected {what} to be a whole number from {least} to {most}, "
                    f"got {value!r}"
                )
        length_of(self.holdout, kind)

    def __and__(self, other: object) -> NoReturn:
        raise ConfigError(
            "expected a list of gates, got gates joined with an operator",
            hint=f"a list means all of them: gate=[{self!r}, {other!r}]",
        )

    __or__ = __and__

    def judge(self, comparison: Comparison) -> Verdict:
        """Return promote, refuse or not enough evidence, with the figures.

        Raises
        ------
        ConfigError
            The column to slice by is none of the rows'.
        """
        from keepfit.metrics.evidence import cleaned, groups

        if not self.paired:
            comparison = dataclasses.replace(comparison, champion=None)
        verdict = self._beforehand(comparison)
        if verdict is not None:
            return verdict
        comparison = cleaned(comparison)
        needs = self._needs(comparison)
        parts, note = groups(comparison, self.slice, alone=ALONE)
        verdicts = [self._judged(comparison, part, needs, len(parts)) for part in parts]
        worst = max(verdicts, key=_severity)
        if worst.answer == Answer.NOT_ENOUGH and self.name in comparison.passed:
            reason = f"{worst.reason.partition('; ')[0]}; shown at an earlier look"
            worst = replaced(worst, answer=Answer.PROMOTE, reason=reason)
        return replaced(worst, reason=worst.reason + note) if note else worst

    def _needs(self, comparison: Comparison) -> float:
        """Return what the lower bound has to reach, oriented so that more is better."""
        raise NotImplementedError

    def _reached(self, low: float, needs: float) -> bool:
        return low >= needs

    def _beforehand(self, comparison: Comparison) -> Verdict | None:
        """Return a verdict that needs no evidence, if there is one."""
        from keepfit.metrics.evidence import finite_rows

        rows = len(comparison.labels)
        broken = rows - int(finite_rows(comparison.challenger).sum())
        if broken:
            return self._verdict(
                Answer.REFUSE, f"{broken:,} of {rows:,} scores are not finite", rows
            )
        if comparison.champion is None and self.paired:
            return self._verdict(Answer.PROMOTE, "no champion yet", rows)
        if not rows:
            return self._verdict(Answer.NOT_ENOUGH, "no labelled rows to judge on yet", 0)
        if self.paired and not finite_rows(comparison.champion).any():
            return self._verdict(Answer.PROMOTE, "the champion gives no finite score", rows)
        if self._late(comparison, self.looks + 1):
            return self._verdict(Answer.REFUSE, f"not shown in {self.looks} looks", rows)
        return None

    def _late(self, comparison: Comparison, look: int) -> bool:
        """Return whether a look has come by which the challenger had to have passed this gate."""
        return comparison.look >= look and self.name not in comparison.passed

    def _judged(self, comparison: Comparison, part: Group, needs: float, parts: int) -> Verdict:
        from keepfit.metrics.evidence import gain_of

        found = gain_of(comparison.metric, *part.of(comparison))
        if found is None or found.mean.effective < self.min_blocks:
            return self._too_few(part, 0.0 if found is None else found.mean.effective)
        tail = self._tail(comparison)
        low, high = found.bounds(tail)[0], found.bounds(tail / parts)[1]
        over = self._late(comparison, self.looks)
        if self._reached(low, needs):
            answer, why = Answer.PROMOTE, ""
        elif high < needs or over:
            answer = Answer.REFUSE
            why = "" if high < needs else f"; not shown in {self.looks} looks"
        else:
            answer, why = Answer.NOT_ENOUGH, f"; look {comparison.look} of {self.looks}"
        return self._measured(
            comparison.metric, part, answer, why, (found.mean.mean, low, high, needs)
        )

    def _tail(self, comparison: Comparison) -> float:
        """Return the share of wrong promotions that one bound of this look may have."""
        look = min(comparison.look, self.looks)
        share = 0.5 ** (look if look < self.looks else self.looks - 1)
        return (1 - self.level) * share / max(1, comparison.challengers)

    def _too_few(self, part: Group, effective: float) -> Verdict:
        reason = (
            f"{part.said}{effective:.1f} effective blocks of time in {part.size:,} rows, "
            f"needs {self.min_blocks}; more labelled rows or a longer holdout would help"
        )
        return self._verdict(Answer.NOT_ENOUGH, reason, part.size, part.label)

    def _measured(
        self,
        metric: Metric,
        part: Group,
        answer: Answer,
        why: str,
        figures: tuple[float, float, float, float],
    ) -> Verdict:
        value, low, high, needs = figures
        texts = _written(figures)
        bound = self._bound(answer, texts[3])
        reason = f"{part.said}{texts[0]} [{texts[1]}, {texts[2]}], {bound}{why}"
        return replaced(
            self._verdict(answer, reason, part.size, part.label),
            value=value,
            low=low,
            high=high,
            needs=needs,
        )

    def _bound(self, answer: Answer, needs: str) -> str:
        """Return what the interval is held against, in words."""
        return f"needs {needs}"

    def _verdict(self, answer: Answer, reason: str, rows: int, label: str | None = None) -> Verdict:
        return Verdict(gate=self.name, answer=answer, reason=reason, rows=rows, slice=label)

    def _in_each(self) -> str:
        return f" in each {self.slice}" if self.slice else ""


@dataclass(frozen=True, repr=False)
class Within(Measured):
    """Base of the gates that put up with a small loss."""

    within: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.within is not None:
            check_within(self.within, type(self).__name__)

    def _margin(self) -> str:
        return "" if self.within is None else f" within {plain(self.within)}"

    def _needs(self, comparison: Comparison) -> float:
        if self.within is not None:
            return -self.within
        return -unminded(
            comparison.metric, comparison.labels, comparison.champion, comparison.weights
        )


@dataclass(frozen=True, repr=False)
class NoWorse(Within):
    """Pass a challenger that is no worse than the champion within a margin.

    The default. Its null is that the challenger is worse by ``within`` or more; of such
    challengers at most the share 1 - ``level`` passes, over all looks. A fresh model that is
    level with the champion mostly passes, so that it wins ties: on streams that change, a
    gate that asks for proof of a gain keeps the old model too long (elec2: accuracy 76.1
    under a strict test at 95 %, 78.0 without a gate). For the same reason the level is 0.7
    and no higher: being wrong costs a little more than a loss that one said not to mind, and
    only until the next training; being strict costs freshness, every time. Where a loss is
    dear, raise ``level``, or use `Beats`.

    Parameters
    ----------
    within
        The loss that is not minded, in units of the metric. When not given: 0.01 for metrics
        of which more is better, as long as they are at most 1; else 2 % of the champion's
        value.
    slice
        A column: every value of it with 500 rows must pass alone, the others together.
    level
        1 minus the share of challengers worse than the margin that may pass.
    holdout
        Which of the new labelled rows judge: a share of them, or the newest ``"28d"``.
    min_blocks
        Effective blocks of time below which there is no verdict.
    looks
        How often a challenger without enough evidence may come again.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> NoWorse(within=0.002).name
    'No worse than champion within 0.0020'
    >>> NoWorse(slice="carrier", within=0.01)
    NoWorse(0.01, slice="carrier")
    """

    @property
    def name(self) -> str:
        """The gate with its margin."""
        return f"No worse than champion{self._margin()}{self._in_each()}"


@dataclass(frozen=True, repr=False)
class Beats(Measured):
    """Pass a challenger that is shown to be better than the champion by a margin.

    For releases that are dear or risky. Its null is that the gain is at most ``margin``; of
    such challengers, equal ones among them when the margin is 0, at most the share
    1 - ``level`` passes, over all looks.

    Parameters
    ----------
    margin
        What the challenger must gain at least, in units of the metric.
    level
        1 minus the share of challengers without that gain that may pass.
    slice, holdout, min_blocks, looks
        As for `NoWorse`.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> Beats(0.002).name
    'Beats champion by 0.0020'
    """

    margin: float = 0.0
    _: KW_ONLY
    level: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_number(self.margin) and self.margin >= 0):
            raise ConfigError(
                f"Beats: expected a margin from 0, got {self.margin!r}",
                hint="to allow a loss, use gates.NoWorse(within=…)",
            )

    @property
    def name(self) -> str:
        """The gate with its margin."""
        margin = f" by {plain(self.margin)}" if self.margin else ""
        return f"Beats champion{margin}{self._in_each()}"

    def _needs(self, comparison: Comparison) -> float:
        return self.margin

    def _reached(self, low: float, needs: float) -> bool:
        return low > needs


@dataclass(frozen=True, repr=False)
class AtLeast(Measured):
    """Pass a challenger whose metric is shown to reach a value, whatever the champion does.

    Use it beside another gate, as a floor below which nothing may serve. For a metric of
    which less is better it is a ceiling: the upper bound must stay at or below the value.
    Its null is that the metric is worse than ``value``; of such challengers at most the share
    1 - ``level`` passes, over all looks.

    Parameters
    ----------
    value
        What the metric has to reach.
    level
        1 minus the share of challengers below the value that may pass.
    slice, holdout, min_blocks, looks
        As for `NoWorse`.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> AtLeast(0.7).name
    'At least 0.7000'
    """

    value: float
    _: KW_ONLY
    level: float = 0.8

    paired = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.value):
            raise ConfigError(f"AtLeast: expected a number, got {self.value!r}")

    @property
    def name(self) -> str:
        """The gate with its bound."""
        return f"At least {plain(self.value)}{self._in_each()}"

    def _needs(self, comparison: Comparison) -> float:
        return self.value if comparison.metric.greater_is_better else -self.value

    def _measured(
        self,
        metric: Metric,
        part: Group,
        answer: Answer,
        why: str,
        figures: tuple[float, float, float, float],
    ) -> Verdict:
        value, low, high, needs = figures
        if not metric.greater_is_better:
            value, low, high, needs = -value, -high, -low, -needs
        bound = "at least" if metric.greater_is_better else "at most"
        reason = (
            f"{part.said}{plain(value)} [{plain(low)}, {plain(high)}], "
            f"needs {bound} {plain(needs)}{why}"
        )
        return replaced(
            self._verdict(answer, reason, part.size, part.label),
            value=value,
            low=low,
            high=high,
            needs=needs,
        )


def unminded(metric: Metric, labels: Any, champion: Any, weights: Any) -> float:
    """Return the loss that is not minded where none is named: 0.01, or 2 % of a large value or a loss."""
    value = math.nan
    if champion is not None:
        value = abs(value_of(metric, labels, champion, weights))
    if not math.isfinite(value) or (metric.greater_is_better and value <= 1):
        return 0.01
    return 0.02 * value


def check_within(within: Any, kind: str) -> None:
    """Raise a `ConfigError` for what is no loss that could be put up with."""
    if not (is_number(within) and within >= 0):
        raise ConfigError(
            f"{kind}: expected within to be a number from 0, got {within!r}",
            hint="it is the loss that is not minded, in units of the metric: within=0.01",
        )


def _severity(verdict: Verdict) -> tuple[int, float]:
    """Return how bad a slice's verdict is: its answer first, then how far the bound is missed."""
    if verdict.value is None or verdict.low is None or verdict.needs is None:
        return SEVERITY[verdict.answer], 0.0
    return SEVERITY[verdict.answer], verdict.needs - verdict.low


def length_of(holdout: float | str | timedelta, kind: str) -> float | timedelta:
    """Return a holdout as a share of the new rows or as a length of time."""
    if isinstance(holdout, str | timedelta):
        length = duration(holdout)
        if length > timedelta(0):
            return length
    elif is_number(holdout) and 0 < holdout < 1:
        return float(holdout)
    raise ConfigError(
        f"{kind}: expected holdout to be a share between 0 and 1 or a duration, got {holdout!r}",
        hint='0.2 keeps the newest fifth of the new labelled rows, "28d" the newest four weeks',
    )


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _digits(figures: Iterable[float]) -> int:
    """Return how many decimals show figures of a size: four for shares, as terminals do."""
    scale = max((abs(one) for one in figures if math.isfinite(one)), default=0.0)
    if scale == 0 or 0.001 <= scale < 10:
        return 4
    return min(8, max(1, 3 - math.floor(math.log10(scale))))


def _written(figures: tuple[float, float, float, float]) -> list[str]:
    """Return value, low, high and what is needed, with their signs and enough decimals."""
    digits = _digits(figures)
    # Adding zero turns -0.0 into 0.0.
    return [f"{round(one, digits) + 0.0:+.{digits}f}" for one in figures]


def plain(value: float, *, sign: bool = False) -> str:
    """Return a figure with enough decimals, and its sign where it is a difference."""
    digits = _digits([value])
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"
