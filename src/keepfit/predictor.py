"""A version that answers rows, outside the loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.batch import from_pandas
from keepfit.errors import ConfigError, VersionUnknown, nearest

if TYPE_CHECKING:
    import polars as pl

    from keepfit.protocols import Model
    from keepfit.registry import Version


@dataclass(frozen=True, slots=True)
class Predictor:
    """A version of a pipeline, loaded and ready to answer rows."""

    pipeline: str
    version: Version
    model: Model

    def __repr__(self) -> str:
        trained_to = f"{self.version.snapshot.to:%Y-%m-%d}"
        return f"{self.pipeline}@{self.version.name} ({self.version.state}, trained on rows to {trained_to})"

    def predict(self, rows: Any) -> pl.DataFrame:
        """Return the prediction for each row, in the order given.

        Parameters
        ----------
        rows
            A Polars, pandas or Arrow table with the model's features; other columns are ignored.

        Returns
        -------
        A frame with the column ``prediction``; with two classes also ``probability`` (of the
        second class), with more ``probability_<class>`` for each.

        Raises
        ------
        SchemaMismatch
            A feature is missing.
        """
        return answers(self.model, rows)


def answers(model: Model, rows: Any) -> pl.DataFrame:
    """Return what a model says of each row of a table: see `Predictor.predict`."""
    import numpy as np
    import polars as pl

    scores, classes = model.predict(table(rows)), model.classes
    if model.task == "regression":
        return pl.DataFrame({"prediction": scores})
    if model.task == "binary":
        chosen = (scores >= 0.5).astype(np.int64)
        return pl.DataFrame({"prediction": _labels(classes, chosen), "probability": scores})
    columns = {f"probability_{name}": scores[:, i] for i, name in enumerate(classes)}
    return pl.DataFrame({"prediction": _labels(classes, scores.argmax(axis=1)), **columns})


def load(spec: str, home: str | Path | None = None) -> Predictor:
    """Load a version to predict with: ``"churn@champion"``, ``"churn@v3"``.

    Parameters
    ----------
    spec
        The pipeline's name, ``@`` and a version or alias; the champion when only a name is given.
    home
        The folder of ledger, lake and artifacts; ``.keepfit`` in the current folder when not given.

    Raises
    ------
    ConfigError
        ``home`` is no folder.
    VersionUnknown
        The ledger knows no such pipeline or version.
    NoChampion
        Nothing serves yet.
    ArtifactCorrupt
        The model's file is not what was stored.
    """
    from keepfit.artifacts import Artifacts
    from keepfit.home import places
    from keepfit.learners import loads
    from keepfit.ledger import Ledger
    from keepfit.registry import State

    folder = Path(home) if home is not None else Path(".keepfit")
    name, _, alias = spec.partition("@")
    if not folder.is_dir():
        raise ConfigError(
            f"expected a home with a ledger, got {str(folder)!r}",
            hint='name it: load("churn@champion", home="…/.keepfit")',
        )
    where = places(folder)
    with Ledger(where["ledger"]) as ledger:
        known = ledger.pipelines()
        if name not in known:
            near = nearest(name, known)
            raise VersionUnknown(
                f"expected one of the pipelines {', '.join(known) or '(none)'}, got {name!r}",
                hint=f"the nearest is {near!r}" if near else None,
            )
        version = State().fold(ledger.facts(name)).version(alias or "champion")
    if not version.artifact:
        raise VersionUnknown(
            f"{version.name} has no model: it is {version.state}", hint="`keepfit log` says why"
        )
    return Predictor(name, version, loads(Artifacts(where["artifacts"]).get(version.artifact)))


def table(rows: Any) -> pl.DataFrame:
    """Return a Polars, pandas or Arrow table as one of Polars.

    Raises
    ------
    ConfigError
        It is none of these.
    """
    import polars as pl

    if isinstance(rows, pl.DataFrame):
        return rows
    if isinstance(rows, pl.LazyFrame):
        return rows.collect()
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "iloc"):
        return from_pandas(rows) if hasattr(rows, "iloc") else pl.DataFrame(rows)
    raise ConfigError(f"expected a Polars, pandas or Arrow table, got {type(rows).__name__}")


def _labels(classes: tuple[Any, ...], codes: Any) -> Any:
    import polars as pl

    return pl.Series("prediction", list(classes)).gather(codes)
