"""BentoML: a service as its documentation has it, one by one and with batches of what waits."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
import lightgbm
import numpy as np

MODEL = "SERVED_MODEL"


class _Booster:
    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file=Path(os.environ[MODEL]))

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster.predict(rows, num_threads=1))


@bentoml.service(workers=1)
class Plain(_Booster):
    """Each request by itself."""

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.scores(rows)


@bentoml.service(workers=1)
class Batched(_Booster):
    """What waits is answered together."""

    @bentoml.api(batchable=True, max_batch_size=1_000, max_latency_ms=1_000)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.scores(rows)


if __name__ == "__main__":
    _, name, folder, port = sys.argv
    os.environ[MODEL] = str(Path(folder) / "model.txt")
    service = {"plain": "Plain", "batched": "Batched"}[name]
    where = ["--host", "127.0.0.1", "--port", port, "--quiet"]
    command = ["-m", "bentoml", "serve", f"peers.bentoml_serving:{service}", *where]
    os.execv(sys.executable, [sys.executable, *command])
