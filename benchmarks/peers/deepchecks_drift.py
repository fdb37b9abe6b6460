"""deepchecks: the check of feature drift on all rows, without its plots."""

from __future__ import annotations

from typing import Any

from deepchecks.tabular import Dataset
from deepchecks.tabular.checks import FeatureDrift

from peers.harness import Columns, DriftTool, drift

LIMIT = 0.2
"""What `add_condition_drift_score_less_than` takes for both kinds unless told."""


class Feature(DriftTool):
    """KS for numbers and Cramér's V for categories; it samples 100,000 rows unless told."""

    def table(self, columns: Columns) -> Dataset:
        return Dataset(super().table(columns), label=None, cat_features=list(columns.categories))

    def check(self, fitted: Dataset, rows: Dataset) -> Any:
        return FeatureDrift(n_samples=None).run(fitted, rows, with_display=False)

    def flagged(self, result: Any) -> list[str]:
        return [name for name, found in _scores(result) if found["Drift score"] > LIMIT]

    def statistics(self, result: Any) -> dict[str, float]:
        return {
            name: float(found["Drift score"])
            for name, found in _scores(result)
            if found["Method"] == "Kolmogorov-Smirnov"
        }

    def state(self, fitted: Any) -> int:
        raise NotImplementedError("it keeps the rows")


def _scores(result: Any) -> list[tuple[str, Any]]:
    """Return the columns that got a score; one without values gets none."""
    return [(name, one) for name, one in result.value.items() if one["Drift score"] is not None]


TOOLS = {"feature": Feature}

if __name__ == "__main__":
    drift(TOOLS)
