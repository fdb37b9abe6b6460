"""An MLflow on SQLite, whose tables are made once: it takes its own migrations seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from keepfit.mirror import Settings
from keepfit.mirror.store import package

FILE = "mlflow.db"


def tables(folder: Path) -> Path:
    """Make an empty MLflow, and return its file."""
    uri = f"sqlite:///{folder / FILE}"
    package("mlflow.tracking").MlflowClient(uri, uri).search_experiments()
    return folder / FILE


def registered(folder: Path, made: Path) -> Settings:
    """Return an MLflow of a test's own, with its files in a folder."""
    shutil.copy(made, folder / FILE)
    uri = f"sqlite:///{folder / FILE}"
    return Settings(uri, artifacts=(folder / "mlflow").as_uri())


def client_of(settings: Settings) -> Any:
    """Return MLflow's own client."""
    return package("mlflow.tracking").MlflowClient(settings.tracking_uri, settings.registry)
