"""How MLflow loads a version: the module that the ``MLmodel`` of a mirrored one names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.errors import ArtifactCorrupt

if TYPE_CHECKING:
    import pandas as pd

    from keepfit.protocols import Model

MODEL = "model.keepfit"
DIGEST = "model.keepfit.sha256"


class Answering:
    """A version's model, as ``mlflow.pyfunc`` asks it: frames of pandas in and out."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return ``prediction`` for each row, and what `keepfit.load` gives beside it.

        Raises
        ------
        SchemaMismatch
            A feature is missing.
        """
        from keepfit.predictor import answers

        return answers(self.model, rows).to_pandas()


def _load_pyfunc(folder: str) -> Answering:
    """Return the model in a folder, once its digest is the one beside it; MLflow calls this."""
    from keepfit import learners

    content = (Path(folder) / MODEL).read_bytes()
    stated = (Path(folder) / DIGEST).read_text(encoding="ascii").strip()
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise ArtifactCorrupt(
            f"expected a model with the digest {stated[:12]}…, got {found[:12]}… in {MODEL}",
            hint="the file was changed after it was mirrored: load another version",
        )
    return Answering(learners.loads(content))
