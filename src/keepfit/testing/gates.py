"""What every gate promises, as a check that one of your own can be put to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keepfit.facts import Answer, Verdict
from keepfit.protocols import Comparison, Gate
from keepfit.testing.metrics import scored


def check_gate(gate: Gate) -> None:
    """Check that a gate does what the loop asks of it.

    Raises
    ------
    AssertionError
        It does not; the message says what.

    Examples
    --------
    >>> from keepfit import gates
    >>> check_gate(gates.NoWorse(within=0.01))
    """
    import numpy as np

    assert isinstance(gate, Gate), f"{gate!r} has no name or no judge()"
    assert isinstance(gate.name, str), f"{gate!r}: its name is no text"
    assert gate.name, f"{gate!r} has no name"
    comparison = compared(rows=2_000)
    verdict = _verdict(gate, comparison)
    assert _verdict(gate, comparison) == verdict, f"{gate.name}: judged twice, said two things"
    for rows in (0, 1, 2, 30):
        few = _first(comparison, rows)
        _verdict(gate, few)
        alone = _verdict(gate, replace(few, champion=None))
        assert alone.answer != Answer.REFUSE, f"{gate.name}: refused {rows} rows, no champion"
    one_class = replace(comparison, labels=np.zeros_like(comparison.labels))
    constant = np.full_like(comparison.challenger, 0.5)
    unknown = replace(comparison, footprint=None, champion_footprint=None)
    for odd in (one_class, replace(comparison, challenger=constant, champion=constant), unknown):
        _verdict(gate, odd)
    broken = comparison.challenger.copy()
    broken[7] = np.nan
    answer = _verdict(gate, replace(comparison, challenger=broken)).answer
    assert answer != Answer.PROMOTE, f"{gate.name}: promoted a challenger that answers NaN"


def compared(*, rows: int, seed: int = 0) -> Comparison:
    """Return a comparison of two models that are equally good, on the accuracy of rows."""
    import numpy as np
    import polars as pl

    from keepfit import metrics

    labels, challenger, _ = scored("binary", rows=rows, seed=seed)
    generator = np.random.default_rng(seed + 1)
    champion = np.clip(challenger + 0.1 * generator.normal(size=rows), 0.01, 0.99)
    return Comparison(
        metric=metrics.get("accuracy", task="binary"),
        labels=labels,
        challenger=np.clip(challenger + 0.1 * generator.normal(size=rows), 0.01, 0.99),
        champion=champion,
        times=np.arange(rows) * 60_000_000,
        rows=pl.DataFrame({"group": generator.choice(["a", "b", "c"], size=rows)}),
        footprint=Figures(),
        champion_footprint=Figures(),
    )


@dataclass(frozen=True)
class Figures:
    """A footprint of stated figures: bytes of the file, seconds a row, and trouble elsewhere."""

    bytes: int = 2_000
    a_row: float = 0.001
    elsewhere: str = ""

    def size(self) -> int:
        """Return the bytes of the file."""
        return self.bytes

    def seconds(self, rows: int) -> float | None:
        """Return the seconds that so many rows take."""
        return rows * self.a_row

    def trouble(self, within: float) -> str:
        """Return what is wrong elsewhere."""
        return self.elsewhere


def _verdict(gate: Gate, comparison: Comparison) -> Verdict:
    verdict = gate.judge(comparison)
    assert isinstance(verdict, Verdict), f"{gate.name}: expected a Verdict, got {verdict!r}"
    assert verdict.reason, f"{gate.name}: a verdict without a reason"
    return verdict


def _first(comparison: Comparison, rows: int) -> Comparison:
    champion = comparison.champion
    return replace(
        comparison,
        labels=comparison.labels[:rows],
        challenger=comparison.challenger[:rows],
        champion=None if champion is None else champion[:rows],
        times=comparison.times[:rows],
        rows=comparison.rows[:rows],
    )
