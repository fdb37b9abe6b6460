"""FastAPI: the app that one writes by hand, without any log; the model is called in the loop."""

from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    """Rows of numbers."""

    rows: list[list[float]]


def made(folder: Path) -> FastAPI:
    """Return the app: a function that is no coroutine would cost a thread for each request."""
    booster = lightgbm.Booster(model_file=folder / "model.txt")
    app = FastAPI()

    @app.post("/predict")
    async def predict(asked: Rows) -> dict[str, list[float]]:
        scores = booster.predict(np.array(asked.rows), num_threads=1)
        return {"predictions": np.asarray(scores).tolist()}

    return app


if __name__ == "__main__":
    _, _, where, port = sys.argv
    uvicorn.run(made(Path(where)), host="127.0.0.1", port=int(port), log_level="warning")
