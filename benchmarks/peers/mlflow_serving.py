"""MLflow: `models serve` of a model saved in its own flavour, fed a tensor."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lightgbm
import mlflow.lightgbm


def saved(folder: Path) -> Path:
    """Return where the model lies in MLflow's form, written when it is not there."""
    where = folder / "mlflow"
    if not where.exists():
        booster = lightgbm.Booster(model_file=folder / "model.txt")
        mlflow.lightgbm.save_model(booster, where, pip_requirements=["lightgbm"])
    return where


if __name__ == "__main__":
    _, _, folder, port = sys.argv
    # Its children look for their commands beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    command = ["-m", "mlflow", "models", "serve", "-m", str(saved(Path(folder))), *options]
    os.execv(sys.executable, [sys.executable, *command])
