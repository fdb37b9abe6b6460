"""What comparing policies tells: who stands where, the front, and which one to take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from keepfit.backtest import front
from keepfit.backtest.judging import Difference
from keepfit.backtest.measures import Measures
from keepfit.backtest.outcome import Backtest, Policy, folded
from keepfit.clock import humanise
from keepfit.parts import written

if TYPE_CHECKING:
    import polars as pl

NAME = 18
"""Columns that a policy's name has at most."""

FRESHER = "Not shown to be worse"
"""How the name of `gates.Fresher` begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a policy stands among the others.

    ``share`` is its CPU time of training, and of probes, beside that of ``always``. ``regret`` is how much
    less it was worth than the best in hindsight with as many trainings; never below zero but
    where windows were served by two models. ``beside`` is how much more it was worth than the
    recommended one, less where it is negative. ``code`` is the trigger as a pipeline's file
    writes it, None where nobody can write it down.
    """

    policy: Policy
    kind: str
    trigger: str
    code: str | None
    share: float | None
    regret: float | None
    beside: Difference | None
    measures: Measures

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.policy.name

    def to_dict(self) -> dict[str, Any]:
        """Return the standing as JSON can hold it."""
        beside = self.beside
        return {
            **self.policy.to_dict(),
            "kind": self.kind,
            "trigger": self.trigger,
            "share_of_always": self.share,
            "regret": self.regret,
            "beside_recommended": None if beside is None else beside.to_dict(),
            "precision": self.measures.precision,
            "need": self.measures.need,
            "hit_rate": self.measures.hit_rate,
            "lag_windows": self.measures.lag,
        }


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The most that so many trainings could have been worth, and what the models cost."""

    trainings: int
    value: float
    fit_cpu_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON can hold it."""
        return {
            "trainings": self.trainings,
            "value": self.value,
            "fit_cpu_seconds": self.fit_cpu_seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compared(Backtest):
    """A backtest of many policies beside the best in hindsight, with the one to take.

    ``standings`` are in order of cost. ``oracle`` is the front that nobody could have known:
    see `keepfit.backtest.oracle`. ``recommended`` names the policy to take: the cheapest of
    those within ``margin`` of the best that are not shown to be worse than it by more; one that
    does not train only where it is shown to be no worse by more, or is the best itself. ``max_age``
    is what ``never`` is to be written with, so that training is not switched off for good: no
    model was seen to serve longer. ``doubt`` is how much more ``never`` was worth than the best,
    where that leaves open whether it is as good. ``notes`` say what was left out.
    """

    standings: tuple[Standing, ...] = ()
    oracle: tuple[Hindsight, ...] = ()
    recommended: str | None = None
    margin: float = 0.0
    max_age: timedelta | None = None
    doubt: Difference | None = None
    greater_is_better: bool = True
    every: timedelta = timedelta(0)
    notes: tuple[str, ...] = ()

    def standing(self, policy: str) -> Standing:
        """Return where a policy stands, by its name."""
        for one in self.standings:
            if one.name == policy:
                return one
        raise KeyError(policy)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as one JSON object."""
        found = Backtest.to_dict(self)
        found["policies"] = [one.to_dict() for one in self.standings]
        found["oracle"] = [point.to_dict() for point in self.oracle]
        found["recommended"] = self.recommendation()
        found["notes"] = list(self.notes)
        return found

    def recommendation(self) -> dict[str, Any] | None:
        """Return the policy to take, with its trigger and the words for it."""
        if self.recommended is None:
            return None
        taken = self.standing(self.recommended)
        return {
            "policy": taken.name,
            "trigger": taken.code,
            "max_age": None if self.age is None else written(self.age).strip('"'),
            "because": [*self.because(), *self.undecided()],
        }

    def ranking(self) -> pl.DataFrame:
        """Return a frame with one row per policy: its worth, its cost, and where it stands."""
        import polars as pl

        left_out = ("windows", "interval", "unscored", "beside_recommended")
        rows = [
            {key: value for key, value in one.to_dict().items() if key not in left_out}
            for one in self.standings
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def change(self) -> str | None:
        """The trigger to write in the place of the pipeline's own; None where that is to stay."""
        if self.recommended is None:
            return None
        taken = self.standing(self.recommended)
        return None if taken.kind == "yours" else taken.code

    @property
    def age(self) -> timedelta | None:
        """The maximum age that belongs to the recommended trigger; None where it needs none."""
        never = self.recommended and self.standing(self.recommended).kind == "never"
        return self.max_age if never else None

    # As text ----------------------------------------------------------------------------

    def table(self) -> str:
        """Return all that was found, as sections of text."""
        sections = [self.worth(), self.moments(), self.front()]
        said = (*self.because(), *self.undecided(), *self.probes(), *self.notes)
        told = "\n".join(folded(sentence) for sentence in said)
        return "\n\n".join(section for section in (*sections, told) if section)

    def worth(self) -> str:
        """Return one line per policy: what it was worth, what it cost, how far from the best.

        Beside it stands how many of its trainings were promoted, ``2 of 64``.
        """
        width = self._width()
        head = (
            f"   {'policy':<{width}} {self.metric:<20} {'promoted':>10}  {'train CPU':>9}"
            f"  {'of always':>9}  {'regret':>7}"
        )
        lines = [head]
        for mark, one in zip(front.MARKS, self.standings, strict=False):
            cost = _seconds(one.policy.fit_cpu_seconds)
            promoted = f"{one.policy.promoted} of {one.policy.trainings}"
            lines.append(
                f"{mark}  {self._named(one):<{width}} {_worth(one.policy):<20} "
                f"{promoted:>10}  {cost:>9}  {_per_cent(one.share):>9}  "
                f"{_number(one.regret):>7}"
            )
        return "\n".join(lines)

    def moments(self) -> str:
        """Return how well each policy chose its moments; see `Measures`."""
        told = [one for one in self.standings if one.measures.hit_rate is not None]
        if not told:
            return ""
        width = self._width()
        lines = [
            f"   {'when it trained':<{width}} {'precision':>9}  {'need':>6}  {'hit rate':>8}  {'lag':>10}"
        ]
        for mark, one in zip(front.MARKS, self.standings, strict=False):
            if one in told:
                found = one.measures
                lag = "n/a" if found.lag is None else humanise(_rounded(found.lag * self.every))
                lines.append(
                    f"{mark}  {self._named(one):<{width}} {_per_cent(found.precision):>9}  "
                    f"{_per_cent(found.need):>6}  {_per_cent(found.hit_rate):>8}  {lag:>10}"
                )
        return "\n".join(lines)

    def front(self) -> str:
        """Return worth against cost, drawn in text; see `keepfit.backtest.front`."""
        points = [
            front.Point(mark, one.policy.fit_cpu_seconds, one.policy.value)
            for mark, one in zip(front.MARKS, self.standings, strict=False)
            if one.policy.value is not None
        ]
        best = [front.Point("·", one.fit_cpu_seconds, one.value) for one in self.oracle]
        if not points:
            return ""
        drawn = front.drawn([*best, *points], greater_is_better=self.greater_is_better)
        return f"{drawn}\n{' ' * 9}train CPU in seconds, by powers of ten · best in hindsight: ·"

    def because(self) -> list[str]:
        """Return which policy to take and how sure that is, as sentences."""
        if self.recommended is None:
            why = self.unscored()[:1]
            return ["no policy was scored: there is no window in which all have a value", *why]
        taken = self.standing(self.recommended)
        said = [f"take {taken.name}: {taken.code or taken.trigger}"]
        if self.age is not None:
            said[0] += f", max_age={written(self.age)}"
            said.append(
                f"it trains all the same once the champion's newest row is {humanise(self.age)} "
                "old, so that training is never off for good"
            )
        own = next((one for one in self.standings if one.kind == "yours"), None)
        others = [own] if own is not None and own.name != taken.name else []
        others += [one for one in self._rivals() if one.name != taken.name and one is not own]
        said += [self._beside(one, taken) for one in others if one.beside is not None]
        if self.doubt is not None and taken.kind != "never":
            said.append(
                "not to train again is cheaper, but not shown to lose no more than "
                f"{self.margin:.4g} beside the best: {self.doubt}"
            )
        periods = [one for one in self.standings if one.kind == "periodic"]
        if len(periods) > 1:
            best = max(periods, key=lambda one: self._sign * (one.policy.value or 0.0))
            said.append(f"{best.name} is the best of {len(periods)} periods, known in hindsight")
        return said

    def undecided(self) -> list[str]:
        """Return for which policies most verdicts were not enough evidence, and what helps."""
        unsure = [one for one in self.standings if 2 * one.policy.undecided > one.policy.judged]
        if not unsure:
            return []
        worst = max(unsure, key=lambda one: one.policy.undecided).policy
        names = [self._named(one) for one in unsure if one.policy is not worst]
        as_well = f" (and on most of {', '.join(names)})" if names else ""
        helps = "a longer holdout decides more"
        if not str(worst.undecided_by).startswith(FRESHER):
            helps += ", and gates.Fresher() promotes unless harm is shown"
        return [
            f'the gate "{worst.undecided_by}" had not enough evidence on {worst.undecided} of '
            f"{worst.judged} challengers of {worst.name}{as_well}: {helps}"
        ]

    def probes(self) -> list[str]:
        """Return how much of what policies cost went into probes, a sentence for each."""
        return [
            f"{one.name} took {_seconds(one.policy.fit_cpu_seconds)} of CPU, of which probes "
            f"{_seconds(one.policy.probe_cpu_seconds)}"
            for one in self.standings
            if one.policy.probe_cpu_seconds
        ]

    def _rivals(self) -> list[Standing]:
        """Return the policy that was worth most, and ``always``, to set beside the one to take."""
        valued = [one for one in self.standings if one.policy.value is not None]
        best = max(valued, key=lambda one: self._sign * (one.policy.value or 0.0))
        always = [one for one in valued if one.kind == "always" and one is not best]
        return [best, *always]

    def _beside(self, other: Standing, taken: Standing) -> str:
        assert other.beside is not None
        whose = f"{other.name} (yours)" if other.kind == "yours" else other.name
        cost = f"{whose} costs {_times(other, taken)}"
        if other.beside.apart:
            word = "better" if other.beside.value > 0 else "worse"
            return f"{whose} is {word}: {other.beside}; {cost}"
        if abs(other.beside.value) <= self.margin:
            return f"it and {whose} cannot be told apart: {other.beside}; {cost}"
        word = "more" if other.beside.value > 0 else "less"
        return f"{whose} was worth {word}, by chance perhaps: {other.beside}; {cost}"

    @property
    def _sign(self) -> float:
        return 1.0 if self.greater_is_better else -1.0

    def _width(self) -> int:
        return max(6, *(len(self._named(one)) for one in self.standings))

    def _named(self, one: Standing) -> str:
        name = f"{one.name} (yours)" if one.kind == "yours" else one.name
        return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _worth(policy: Policy) -> str:
    if policy.value is None:
        return "n/a"
    if policy.interval is None:
        return _number(policy.value)
    return f"{_number(policy.value)} [{_number(policy.interval[0])}, {_number(policy.interval[1])}]"


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    shown = f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
    return shown.removeprefix("-") if not shown.strip("-0.") else shown


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 1 else humanise(timedelta(seconds=seconds))


def _per_cent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.0f} %"


def _times(one: Standing, other: Standing) -> str:
    cost, beside = one.policy.fit_cpu_seconds, other.policy.fit_cpu_seconds
    return f"{cost / beside:.2g} times as much" if beside > 0 else "more"


def _rounded(length: timedelta) -> timedelta:
    return timedelta(seconds=round(length.total_seconds()))
