"""keepfit keeps a machine-learning model current.

1. Name a source: ``events = sources.Parquet("events/", time="seen_at", label="churned")``.
2. Name an estimator, and make a pipeline: ``churn = Pipeline("churn", events, LGBMClassifier())``.
3. See whether continuous training pays on your data, ``churn.backtest()``, and keep the model
   current, ``churn.run()``.
"""

from keepfit import (
    checks,
    datasets,
    drift,
    estimates,
    executors,
    gates,
    learners,
    metrics,
    rollouts,
    selection,
    sources,
    triggers,
)
from keepfit.challenger import Challenger
from keepfit.client import AsyncClient, Client
from keepfit.explore import Explore
from keepfit.ledger import Ledger
from keepfit.pipeline import Pipeline
from keepfit.predictor import load

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Challenger",
    "Client",
    "Explore",
    "Ledger",
    "Pipeline",
    "checks",
    "datasets",
    "drift",
    "estimates",
    "executors",
    "gates",
    "learners",
    "load",
    "metrics",
    "rollouts",
    "selection",
    "sources",
    "triggers",
]
