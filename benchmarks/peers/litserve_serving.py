"""LitServe, as its documentation has it: one worker, and with batches as another way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightgbm
import litserve
import numpy as np

MODEL = "SERVED_MODEL"


class Served(litserve.LitAPI):
    """Rows of numbers in, scores out."""

    def setup(self, device: str) -> None:
        self.booster = lightgbm.Booster(model_file=Path(os.environ[MODEL]))

    # An annotation of the request would be taken for the form of its body.
    def decode_request(self, request, **kwargs: Any) -> np.ndarray:  # type: ignore[no-untyped-def]
        return np.array(request["rows"])

    def predict(self, x: np.ndarray, **kwargs: Any) -> Any:
        return self.booster.predict(x, num_threads=1)

    def encode_response(self, output: Any, **kwargs: Any) -> dict[str, Any]:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    _, _, folder, port = sys.argv
    # Its worker is a new process, which knows what is in the environment alone.
    os.environ[MODEL] = str(Path(folder) / "model.txt")
    server = litserve.LitServer(Served(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False)
