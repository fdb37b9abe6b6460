"""A pipeline to serve from a process of its own: its rows lie beside it."""

from pathlib import Path

from lightgbm import LGBMClassifier

from keepfit import Challenger, Pipeline, executors, gates, sources, triggers

FOLDER = Path(__file__).resolve().parent

churn = Pipeline(
    "churn",
    sources.Parquet(str(FOLDER / "rows"), id="id", time="time", label="label"),
    LGBMClassifier(n_estimators=5, verbosity=-1),
    metric="roc_auc",
    every="30d",
    trigger=triggers.Every("3650d") | triggers.OnEvent("prices"),
    challengers=[Challenger()],
    gate=gates.Fresher(),
    enough=1,
    executor=executors.Inline(),
)
