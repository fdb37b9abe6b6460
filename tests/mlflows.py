"""An MLflow on SQLite, whose tables are made once: it takes its own migrations seconds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from keepfit.mirror import Settings
from keepfit.mirror.store import package
from tests.waits import PATIENCE

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


class Server:
    """MLflow's own tracking server on a folder: what it is asked goes over HTTP, files too.

    It is its application under uvicorn, as ``mlflow server`` has it; that command is only in
    the large package.
    """

    def __init__(self, folder: Path, made: Path) -> None:
        shutil.copy(made, folder / FILE)
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.settings = Settings(f"http://127.0.0.1:{self.port}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        store = f"sqlite:///{self.folder / FILE}"
        given = {
            "_MLFLOW_SERVER_FILE_STORE": store,
            "_MLFLOW_SERVER_REGISTRY_STORE": store,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self.folder / "kept"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        }
        command = [sys.executable, "-m", "uvicorn", "--port", str(self.port)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "mlflow.server.fastapi_app:app"],
                env=os.environ | given,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.settings.tracking_uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as a machine does that is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
