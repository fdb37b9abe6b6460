"""keepfit: a reference fitted once, and all statistics of all columns from one pass."""

from __future__ import annotations

from typing import Any

import polars as pl

from keepfit import drift
from peers import harness
from peers.harness import Columns, DriftTool


class Everything(DriftTool):
    """KS, Wasserstein-1, PSI, Jensen-Shannon, chi-square, missing and unseen shares."""

    def table(self, columns: Columns) -> pl.DataFrame:
        texts = {
            name: pl.Series(values, dtype=pl.String) for name, values in columns.categories.items()
        }
        numbers = {n: pl.Series(values, nan_to_null=True) for n, values in columns.numbers.items()}
        times = {
            name: pl.Series(values).dt.replace_time_zone("UTC")
            for name, values in columns.times.items()
        }
        return pl.DataFrame({**numbers, **texts, **times})

    def fit(self, reference: Any) -> drift.Reference:
        return drift.Reference.fit(reference)

    def check(self, fitted: drift.Reference, rows: Any) -> Any:
        return fitted.check(rows)

    def flagged(self, result: Any) -> list[str]:
        return [found.column for found in result.drifted]

    def statistics(self, result: Any) -> dict[str, float]:
        return {
            found.column: found.statistics["KS"] for found in result if "KS" in found.statistics
        }

    def state(self, fitted: drift.Reference) -> int:
        return len(fitted.dumps())

    def files(self, reference: str, current: str) -> Any:
        return self.check(self.fit(reference), current)


TOOLS = {"everything": Everything}

if __name__ == "__main__":
    harness.drift(TOOLS)
