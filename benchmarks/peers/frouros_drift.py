"""Frouros: one detector per number, as its guide has it; categories are not looked at."""

from __future__ import annotations

from typing import Any

from frouros.detectors import data_drift

from peers.harness import Columns, DriftTool, drift

ALPHA = 0.001
LIMIT = 0.1


class KS(DriftTool):
    """The Kolmogorov-Smirnov test."""

    detector: Any = data_drift.KSTest

    def table(self, columns: Columns) -> Any:
        return columns.numbers

    def fit(self, reference: Any) -> Any:
        detectors = {name: self.detector() for name in reference}
        for name, detector in detectors.items():
            detector.fit(X=reference[name])
        return detectors

    def check(self, fitted: Any, rows: Any) -> Any:
        return {name: detector.compare(X=rows[name])[0] for name, detector in fitted.items()}

    def flagged(self, result: Any) -> list[str]:
        return [name for name, test in result.items() if test.p_value < ALPHA]

    def statistics(self, result: Any) -> dict[str, float]:
        return {name: float(test.statistic) for name, test in result.items()}


class PSI(KS):
    """The population stability index in ten bins of equal width."""

    detector = data_drift.PSI

    def flagged(self, result: Any) -> list[str]:
        return [name for name, found in result.items() if found.distance > LIMIT]

    def statistics(self, result: Any) -> dict[str, float]:
        return {}


TOOLS = {"ks": KS, "psi": PSI}

if __name__ == "__main__":
    drift(TOOLS)
