"""A pipeline to serve whose later versions fail on rows that are far out, as the environment says."""

import os
import time
from pathlib import Path

import numpy as np

from keepfit import Challenger, Pipeline, executors, rollouts, sources, triggers

FOLDER = Path(__file__).resolve().parent
FIRST = 2_000
"""Versions of so many rows at most never fail."""


class Odd:
    """Learns x and y, and fails in one way of rows that are far out.

    It is least squares in numpy alone: a library takes each process seconds to import.
    """

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Odd":
        self.classes_ = np.unique(y)
        table = np.column_stack([np.ones(len(X)), X])
        self.weights_ = np.linalg.lstsq(table, 4.0 * y - 2.0)[0]
        self.far_ = 5 * float(X[:, 0].max()) if len(y) > FIRST else np.inf
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        decided = np.clip(self.weights_[0] + X @ self.weights_[1:], -50.0, 50.0)
        second = 1 / (1 + np.exp(-decided))
        found = np.column_stack([1 - second, second])
        far = X[:, 0] > self.far_
        if far.any() and self.fault == "raises":
            raise ValueError("a table is missing")
        if far.any() and self.fault == "slow":
            time.sleep(0.7)
        if self.fault == "nan":
            found[far] = np.nan
        return found

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


churn = Pipeline(
    "churn",
    sources.Parquet(str(FOLDER / "rows"), id="id", time="time", label="label"),
    Odd(os.environ.get("KEEPFIT_FAULT", "")),
    metric="roc_auc",
    features=["x", "y"],
    every="30d",
    trigger=triggers.Every("3650d") | triggers.OnEvent("prices"),
    challengers=[Challenger()],
    gate=[],
    rollout=[rollouts.Shadow("1s"), rollouts.Canary(0.5, os.environ.get("KEEPFIT_CANARY", "3s"))],
    enough=1,
    executor=executors.Inline(),
)
