"""A pipeline to serve from a process of its own: its rows lie beside it."""

from pathlib import Path

import numpy as np

from keepfit import Challenger, Pipeline, executors, gates, sources, triggers

FOLDER = Path(__file__).resolve().parent


class Linear:
    """Least squares of x and y, in numpy alone: a library takes each process seconds to import."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Linear":
        self.classes_ = np.unique(y)
        self.weights_ = np.linalg.lstsq(_table(X), 4.0 * y - 2.0)[0]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        second = 1 / (1 + np.exp(-np.clip(_table(X) @ self.weights_, -50.0, 50.0)))
        return np.column_stack([1 - second, second])

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _table(X: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(X)), X[:, :2]])


churn = Pipeline(
    "churn",
    sources.Parquet(str(FOLDER / "rows"), id="id", time="time", label="label"),
    Linear(),
    metric="roc_auc",
    every="30d",
    trigger=triggers.Every("3650d") | triggers.OnEvent("prices"),
    challengers=[Challenger()],
    gate=gates.Fresher(),
    enough=1,
    executor=executors.Inline(),
)
