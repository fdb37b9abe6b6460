"""NannyML: CBPE and DLE, as its guide has them."""

from __future__ import annotations

from typing import Any

import nannyml
import pandas as pd

from peers.estimating import EstimateTool, Said, Scored, estimates


class CBPE(EstimateTool):
    """Performance of a classifier of two classes, with its default isotonic calibration."""

    def table(self, rows: Scored, *, labelled: bool) -> pd.DataFrame:
        columns = {"score": rows.scores, "answer": (rows.scores >= 0.5).astype(int)}
        return pd.DataFrame(columns | ({"label": rows.labels} if labelled else {}))

    def fit(self, reference: pd.DataFrame) -> Any:
        estimator = nannyml.CBPE(
            metrics=self.metrics,
            y_pred_proba="score",
            y_pred="answer",
            y_true="label",
            problem_type="classification_binary",
            chunk_size=self.chunk,
        )
        return estimator.fit(reference)

    def estimate(self, fitted: Any, rows: pd.DataFrame) -> Any:
        return fitted.estimate(rows)

    def said(self, result: Any, metric: str) -> list[Said]:
        found = result.filter(period="analysis").to_df()[metric]
        bounds = (found["lower_confidence_boundary"], found["upper_confidence_boundary"])
        return [Said(*map(float, row)) for row in zip(found["value"], *bounds, strict=True)]


class DLE(CBPE):
    """Performance of a regressor, with its default LightGBM on the loss."""

    def table(self, rows: Scored, *, labelled: bool) -> pd.DataFrame:
        assert rows.features is not None
        columns = {**rows.features.numbers, "answer": rows.scores}
        return pd.DataFrame(columns | ({"label": rows.labels} if labelled else {}))

    def fit(self, reference: pd.DataFrame) -> Any:
        estimator = nannyml.DLE(
            feature_column_names=[n for n in reference.columns if n not in ("answer", "label")],
            y_pred="answer",
            y_true="label",
            metrics=self.metrics,
            chunk_size=self.chunk,
        )
        return estimator.fit(reference)


TOOLS = {"cbpe": CBPE, "dle": DLE}

if __name__ == "__main__":
    estimates(TOOLS)
