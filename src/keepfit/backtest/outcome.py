"""What a backtest tells: windows, policies, and the table they make."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.clock import humanise

if TYPE_CHECKING:
    import polars as pl

WIDTH = 84
"""Columns of a line of text, which the terminal indents by two."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window of the metric: the rows of one step, scored by what served them."""

    from_: datetime | None
    to: datetime | None
    n: int
    value: float | None
    batch: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the window as JSON can hold it."""
        return {"from": _iso(self.from_), "to": _iso(self.to), "n": self.n, "value": self.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one way of deciding was worth: the mean over windows, and what it cost.

    ``fit_cpu_seconds`` are those of trainings and of the probes that `triggers.Pays` takes,
    which ``probe_cpu_seconds`` are of them. ``judged`` counts the challengers that came before
    the gate, ``undecided`` those of whom it said not enough evidence in the end, ``undecided_by``
    names the gate that did so most often. ``unscored`` says why where no window has a value.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    trainings: int
    promoted: int
    refused: int
    rolled_back: int
    fit_cpu_seconds: float
    probe_cpu_seconds: float = 0.0
    judged: int = 0
    undecided: int = 0
    undecided_by: str | None = None
    windows: tuple[Window, ...] = ()
    unscored: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON can hold it."""
        return {
            "policy": self.name,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "trainings": self.trainings,
            "promoted": self.promoted,
            "refused": self.refused,
            "rolled_back": self.rolled_back,
            "fit_cpu_seconds": self.fit_cpu_seconds,
            "probe_cpu_seconds": self.probe_cpu_seconds,
            "judged": self.judged,
            "undecided": self.undecided,
            "undecided_by": self.undecided_by,
            "unscored": self.unscored,
            "windows": [window.to_dict() for window in self.windows],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What continuous training would have been worth on the past.

    ``ledger`` is the folder of the facts, one pipeline per policy.
    """

    pipeline: str
    metric: str
    rows: int
    from_: datetime
    to: datetime
    policies: tuple[Policy, ...]
    ledger: Path

    def __getitem__(self, policy: str) -> Policy:
        """Return a policy by name."""
        for one in self.policies:
            if one.name == policy:
                return one
        raise KeyError(policy)

    def to_dict(self) -> dict[str, Any]:
        """Return the backtest as one JSON object."""
        return {
            "pipeline": self.pipeline,
            "metric": self.metric,
            "rows": self.rows,
            "from": _iso(self.from_),
            "to": _iso(self.to),
            "policies": [policy.to_dict() for policy in self.policies],
        }

    def to_frame(self) -> pl.DataFrame:
        """Return a frame with one row per policy and window."""
        import polars as pl

        rows = [
            {"policy": policy.name, "from": w.from_, "to": w.to, "n": w.n, "value": w.value}
            for policy in self.policies
            for w in policy.windows
        ]
        moment = pl.Datetime("us", "UTC")
        schema: dict[str, Any] = {
            "policy": pl.String,
            "from": moment,
            "to": moment,
            "n": pl.Int64,
            "value": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema)

    def __repr__(self) -> str:
        return f"{self.headline()}\n\n{self.table()}"

    def headline(self) -> str:
        """Return the backtest in one line."""
        return (
            f"{self.pipeline} · backtest {self.from_:%Y-%m-%d} → {self.to:%Y-%m-%d} · "
            f"{self.rows:,} rows · {self.metric}"
        )

    def table(self) -> str:
        """Return one line per policy: what it reached, and what it took."""
        width = max(12, *(len(policy.name) for policy in self.policies))
        heads = ("trainings", "promoted", "refused", "rolled back")
        lines = [f"{'policy':<{width}} {self.metric:>10}   {'   '.join(heads)}   {'train CPU':>11}"]
        for policy in self.policies:
            value = "n/a" if policy.value is None else f"{policy.value:.3f}"
            counts = (policy.trainings, policy.promoted, policy.refused, policy.rolled_back)
            cells = "   ".join(
                f"{count:>{len(head)}}" for count, head in zip(counts, heads, strict=True)
            )
            cost = humanise(timedelta(seconds=policy.fit_cpu_seconds))
            lines.append(f"{policy.name:<{width}} {value:>10}   {cells}   {cost:>11}")
        said = self.unscored()[:1]
        if len(self.policies) > 1:
            # With `compare="all"` they are the pipeline under another trigger, and reach other values.
            said.insert(0, "the others train one recipe on all rows so far, without a gate")
        lines += [f"\n{folded(sentence)}" for sentence in said]
        return "\n".join(lines)

    def unscored(self) -> list[str]:
        """Return which policies have no value, and why, a sentence for each."""
        return [f"{one.name} has no value: {one.unscored}" for one in self.policies if one.unscored]


def folded(sentence: str) -> str:
    """Return a sentence in lines as wide as the terminal's."""
    return textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
