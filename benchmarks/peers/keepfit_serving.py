"""keepfit: `keepfit serve`, every prediction on disk before it is answered."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FILE = "served.py"

PIPELINE = """
from pathlib import Path

from keepfit import Pipeline, executors, sources
from lightgbm import LGBMClassifier

served = Pipeline(
    "served",
    sources.Parquet(str(Path(__file__).parent / "rows"), id="id", time="time", label="label"),
    LGBMClassifier(n_estimators=100, verbosity=-1),
    every="365d",
    executor=executors.Inline(),
)
"""

if __name__ == "__main__":
    _, _, folder, port = sys.argv
    command = ["-m", "keepfit", "serve", str(Path(folder) / FILE), "--port", port]
    os.execv(sys.executable, [sys.executable, *command])
