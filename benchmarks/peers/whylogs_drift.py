"""whylogs: both sides profiled, the profiles compared."""

from __future__ import annotations

from typing import Any

import whylogs
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

from peers.harness import DriftTool, drift


class Profiles(DriftTool):
    """The default scores: KS for numbers and chi-square for categories, as p-values."""

    def fit(self, reference: Any) -> Any:
        return whylogs.log(reference).view()

    def check(self, fitted: Any, rows: Any) -> Any:
        return calculate_drift_scores(self.fit(rows), fitted, with_thresholds=True)

    def flagged(self, result: Any) -> list[str]:
        return [
            name
            for name, found in result.items()
            if found is not None and found["drift_category"] == "DRIFT"
        ]

    def state(self, fitted: Any) -> int:
        return len(fitted.serialize())


TOOLS = {"profiles": Profiles}

if __name__ == "__main__":
    drift(TOOLS)
