"""The floor: both sides' numbers sorted once, on two threads, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from peers.harness import Columns, DriftTool, drift


class Sort(DriftTool):
    """`np.sort` of every number: what any exact comparison of distributions has to do."""

    def table(self, columns: Columns) -> Any:
        return list(columns.numbers.values())

    def fit(self, reference: Any) -> Any:
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(np.sort, reference))

    def check(self, fitted: Any, rows: Any) -> Any:
        return self.fit(rows)

    def flagged(self, result: Any) -> list[str]:
        return []


TOOLS = {"sort": Sort}

if __name__ == "__main__":
    drift(TOOLS)
