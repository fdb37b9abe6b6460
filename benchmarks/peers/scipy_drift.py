"""SciPy by hand: `ks_2samp` in a loop over the numbers."""

from __future__ import annotations

from typing import Any

from scipy.stats import ks_2samp

from peers.harness import Columns, DriftTool, drift

ALPHA = 0.001


class KS(DriftTool):
    """The test as SciPy has it, one column after the other."""

    def table(self, columns: Columns) -> Any:
        return columns.numbers

    def check(self, fitted: Any, rows: Any) -> Any:
        return {name: ks_2samp(values, rows[name]) for name, values in fitted.items()}

    def flagged(self, result: Any) -> list[str]:
        return [name for name, test in result.items() if test.pvalue < ALPHA]

    def statistics(self, result: Any) -> dict[str, float]:
        return {name: float(test.statistic) for name, test in result.items()}


TOOLS = {"ks": KS}

if __name__ == "__main__":
    drift(TOOLS)
