"""NannyML: the univariate drift calculator, as its guide has it."""

from __future__ import annotations

import glob
from typing import Any

import nannyml
import pandas as pd

from peers.harness import DriftTool, drift


class JensenShannon(DriftTool):
    """The default: Jensen-Shannon for every column; one chunk, or chunks as large as a batch."""

    methods = {
        "continuous_methods": ["jensen_shannon"],
        "categorical_methods": ["jensen_shannon"],
    }

    def fit(self, reference: pd.DataFrame) -> Any:
        chunks = {"chunk_size": self.batch} if self.batch else {"chunk_number": 1}
        calculator = nannyml.UnivariateDriftCalculator(
            column_names=list(reference.columns), **chunks, **self.methods
        )
        return calculator.fit(reference)

    def check(self, fitted: Any, rows: pd.DataFrame) -> Any:
        return fitted.calculate(rows)

    def flagged(self, result: Any) -> list[str]:
        alerts = result.filter(period="analysis").to_df()
        columns = [key for key in alerts.columns if key[-1] == "alert"]
        return [key[0] for key in columns if alerts[key].any()]

    def files(self, reference: str, current: str) -> Any:
        return self.check(self.fit(_read(reference)), _read(current))


class KS(JensenShannon):
    """Kolmogorov-Smirnov for numbers, chi-square for categories."""

    methods = {
        "continuous_methods": ["kolmogorov_smirnov"],
        "categorical_methods": ["chi2"],
    }

    def statistics(self, result: Any) -> dict[str, float]:
        frame = result.filter(period="analysis").to_df()
        return {
            key[0]: float(frame[key].iloc[-1])
            for key in frame.columns
            if key[1] == "kolmogorov_smirnov" and key[-1] == "value"
        }


def _read(pattern: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(glob.glob(pattern))])


TOOLS = {"jensen-shannon": JensenShannon, "ks": KS}

if __name__ == "__main__":
    drift(TOOLS)
