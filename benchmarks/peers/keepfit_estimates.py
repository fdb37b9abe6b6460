"""keepfit: CBPE, its weighted form, and DLE."""

from __future__ import annotations

from typing import Any

import polars as pl

from keepfit import estimates as of_keepfit
from peers.estimating import EstimateTool, Said, Scored, estimates, spans


class CBPE(EstimateTool):
    """Scores alone."""

    def table(self, rows: Scored, *, labelled: bool) -> Scored:
        return rows

    def fit(self, reference: Scored) -> Any:
        return of_keepfit.CBPE(metrics=self.metrics).fit(reference.labels, reference.scores)

    def estimate(self, fitted: Any, rows: Scored) -> Any:
        return {
            metric: [
                fitted.estimate(rows.scores[cut], metric)
                for cut in spans(len(rows.scores), self.chunk)
            ]
            for metric in self.metrics
        }

    def said(self, result: Any, metric: str) -> list[Said]:
        return [Said(one.value, one.low, one.high) for one in result[metric]]


class Weighted(CBPE):
    """Scores and features, the reference weighted to be like the chunk."""

    def table(self, rows: Scored, *, labelled: bool) -> Any:
        return rows, _frame(rows)

    def fit(self, reference: Any) -> Any:
        rows, features = reference
        return of_keepfit.Weighted(metrics=self.metrics).fit(rows.labels, rows.scores, features)

    def estimate(self, fitted: Any, rows: Any) -> Any:
        scored, features = rows
        return {
            metric: [
                fitted.estimate(
                    scored.scores[cut], features.slice(cut.start, self.chunk), metric=metric
                )
                for cut in spans(len(scored.scores), self.chunk)
            ]
            for metric in self.metrics
        }


class DLE(Weighted):
    """The loss of a regressor, learnt from its answers and features."""

    def fit(self, reference: Any) -> Any:
        rows, features = reference
        return of_keepfit.DLE(metrics=self.metrics).fit(rows.labels, rows.scores, features)


def _frame(rows: Scored) -> pl.DataFrame:
    assert rows.features is not None
    texts = {
        name: pl.Series(values, dtype=pl.String)
        for name, values in rows.features.categories.items()
    }
    numbers = {
        name: pl.Series(values, nan_to_null=True) for name, values in rows.features.numbers.items()
    }
    return pl.DataFrame({**numbers, **texts})


TOOLS = {"cbpe": CBPE, "weighted": Weighted, "dle": DLE}

if __name__ == "__main__":
    estimates(TOOLS)
