"""A model asked in a clean process: ``python -m keepfit.elsewhere``.

That process imports what is installed and nothing of the user's file. Model, rows and answers
travel as files; a model that crashes who loads it takes nobody with it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

MODEL, ROWS, ANSWERS = "model", "rows.arrow", "answers.npy"


def answered(content: bytes, rows: pl.DataFrame, *, within: float) -> np.ndarray | str:
    """Return what a model, given as bytes, says of rows in a process of its own, or why it does not."""
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="keepfit-") as name:
        folder = Path(name)
        (folder / MODEL).write_bytes(content)
        rows.write_ipc(folder / ROWS)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "keepfit.elsewhere", str(folder)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=within,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it took longer than {within:g} s to load and answer"
        if done.returncode == 0:
            found: np.ndarray = np.load(folder / ANSWERS)
            return found
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    how = f"ended with status {done.returncode}" if done.returncode >= 0 else "crashed"
    return ": ".join([f"the process that loaded it {how}", *last])


def main(folder: Path) -> None:
    """Load the model in a folder, and write what it says of the rows there."""
    import numpy as np
    import polars as pl

    from keepfit import learners

    model = learners.loads((folder / MODEL).read_bytes())
    np.save(folder / ANSWERS, np.asarray(model.predict(pl.read_ipc(folder / ROWS)), np.float64))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
