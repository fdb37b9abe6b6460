"""alibi-detect: TabularDrift, KS for numbers and chi-square for categories."""

from __future__ import annotations

from typing import Any

import numpy as np
from alibi_detect.cd import TabularDrift

from peers.harness import Columns, DriftTool, drift


class Tabular(DriftTool):
    """The detector for mixed tables; it takes one array, with categories as codes."""

    def __init__(self, batch: int | None = None) -> None:
        super().__init__(batch)
        self.names: list[str] = []
        self.kinds: dict[int, None] = {}

    def table(self, columns: Columns) -> np.ndarray:
        self.names = [*columns.numbers, *columns.categories]
        self.kinds = dict.fromkeys(range(len(columns.numbers), len(self.names)))
        # A code must mean the same text on both sides: the number that each text ends with.
        codes = [
            np.array([float(text.rpartition(" ")[2]) for text in values])
            for values in columns.categories.values()
        ]
        return np.column_stack([*columns.numbers.values(), *codes])

    def fit(self, reference: np.ndarray) -> TabularDrift:
        return TabularDrift(reference, p_val=0.05, categories_per_feature=self.kinds)

    def check(self, fitted: TabularDrift, rows: np.ndarray) -> Any:
        return fitted.predict(rows)

    def flagged(self, result: Any) -> list[str]:
        data = result["data"]
        pairs = zip(self.names, data["p_val"], strict=True)
        return [name for name, p in pairs if p < data["threshold"]]

    def statistics(self, result: Any) -> dict[str, float]:
        pairs = enumerate(zip(self.names, result["data"]["distance"], strict=True))
        return {name: float(value) for i, (name, value) in pairs if i not in self.kinds}


class AsItComes(Tabular):
    """The same, of one array of objects, in which categories are the texts that they are.

    `Tabular` gets codes instead, made before the clock starts; keepfit reads the texts.
    """

    def table(self, columns: Columns) -> np.ndarray:
        self.names = [*columns.numbers, *columns.categories]
        self.kinds = dict.fromkeys(range(len(columns.numbers), len(self.names)))
        height = len(next(iter(columns.numbers.values())))
        rows = np.empty((height, len(self.names)), dtype=object)
        for place, values in enumerate([*columns.numbers.values(), *columns.categories.values()]):
            rows[:, place] = values
        return rows


TOOLS = {"tabular": Tabular, "objects": AsItComes}

if __name__ == "__main__":
    drift(TOOLS)
