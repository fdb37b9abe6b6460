"""The only place that writes to MLflow: versions, runs, files and aliases."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.errors import ExtraMissing
from keepfit.mirror.pages import ALIASES, Measured, Page
from keepfit.mirror.pyfunc import DIGEST, MODEL

if TYPE_CHECKING:
    from keepfit.mirror.settings import Settings

FOLDER = "model"
AT_ONCE = 1_000
"""Figures that MLflow takes with one call; of parameters and tags it takes a hundred."""

_GONE = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
_QUIETLY = {
    # Nobody is told what is used: keepfit sends nothing anywhere, nor does what it calls.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Standard output is for what a command was asked for.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Of a server that is away the mirror hears soon; it tries again by itself.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class Copy(msgspec.Struct):
    """A version on MLflow's side: its number there, its run, and what of it has been told.

    ``gone`` says that somebody deleted it there.
    """

    version: str
    run: str
    seq: int = 0
    gone: bool = False


def package(name: str = "mlflow") -> Any:
    """Return MLflow or a module of it, told to be quiet.

    Raises
    ------
    ExtraMissing
        It is not installed.
    """
    for variable, value in _QUIETLY.items():
        os.environ.setdefault(variable, value)
    try:
        with warnings.catch_warnings():
            # Of type hints in MLflow's own code, which whoever imports it can do nothing about.
            warnings.simplefilter("ignore")
            found = import_module(name)
    except ImportError:
        raise ExtraMissing(
            "expected the package `mlflow` beside pandas, and one of them is not installed",
            hint='pip install "keepfit[mlflow]"',
        ) from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return found


class Store:
    """A registered model of MLflow, and the experiment with its runs.

    Raises
    ------
    ExtraMissing
        MLflow is not installed.
    """

    def __init__(self, settings: Settings, pipeline: str) -> None:
        self.pipeline, self.model = pipeline, settings.name or pipeline
        self._settings = settings
        self._failure: type[Exception] = package("mlflow.exceptions").MlflowException
        self._made: Any = None

    @property
    def _client(self) -> Any:
        """What talks to MLflow; making it may make tables, and so fail while that is away."""
        if self._made is None:
            tracking = package("mlflow.tracking")
            uri, registry = self._settings.tracking_uri, self._settings.registry
            self._made = tracking.MlflowClient(tracking_uri=uri, registry_uri=registry)
        return self._made

    def prepare(self) -> None:
        """Make the registered model, where there is none."""
        with self._unless("RESOURCE_ALREADY_EXISTS"):
            tags = {"keepfit.pipeline": self.pipeline}
            self._client.create_registered_model(self.model, tags=tags)

    def find(self, page: Page) -> Copy | None:
        """Return the copy of a version that is there already, as after a crash."""
        tagged = f"tags.`keepfit.version` = '{page.name}'"
        for found in self._client.search_model_versions(f"name = '{self.model}' AND {tagged}"):
            tags = found.tags
            same = tags.get("keepfit.digest") == page.version.artifact
            if same and tags.get("keepfit.pipeline") == self.pipeline:
                return Copy(str(found.version), found.run_id or "")
        return None

    def make(self, page: Page, content: bytes) -> Copy:
        """Make a run with the model's file, and a model version of it."""
        version, tags = page.version, page.tags(self.pipeline)
        run = self._client.create_run(
            self._experiment(),
            run_name=f"{self.pipeline} {page.name}",
            start_time=_millis(version.started_at),
            tags=tags,
        )
        self._write(run.info.run_id, params=page.params())
        with tempfile.TemporaryDirectory(prefix="keepfit-") as folder:
            _described(Path(folder), page, content, run.info.run_id)
            self._client.log_artifacts(run.info.run_id, folder, FOLDER)
        ended = version.trained_at or version.started_at
        self._client.set_terminated(run.info.run_id, end_time=_millis(ended))
        made = self._client.create_model_version(
            self.model,
            source=f"{run.info.artifact_uri}/{FOLDER}",
            run_id=run.info.run_id,
            tags=tags,
            description=f"{page.name} of the pipeline {self.pipeline}",
        )
        return Copy(str(made.version), run.info.run_id)

    def update(self, copy: Copy, page: Page) -> None:
        """Tell what is new of a version; one that was deleted there is marked as gone."""
        tags, figures = page.tags(self.pipeline), page.since(copy.seq)
        try:
            # It is asked first: what is written to the run of a version that is gone is of no use.
            held = self._client.get_model_version(self.model, copy.version).tags
            for key, value in tags.items():
                if held.get(key) != value:
                    self._client.set_model_version_tag(self.model, copy.version, key, value)
        except self._failure as error:
            if _code(error) not in _GONE:
                raise
            copy.gone = True
            return
        # A run may be deleted while its version is there: then there is nowhere to write.
        with self._unless("INVALID_PARAMETER_VALUE", "INVALID_STATE", *_GONE):
            self._write(copy.run, tags=tags, figures=figures)

    def point(self, aliases: Mapping[str, str]) -> list[str]:
        """Let aliases point to model versions, and take away those that nobody holds."""
        held = self._client.get_registered_model(self.model).aliases
        moved = []
        for alias in ALIASES:
            wanted, now = aliases.get(alias), held.get(alias)
            if wanted is not None and str(now) != wanted:
                self._client.set_registered_model_alias(self.model, alias, wanted)
                moved.append(alias)
            elif wanted is None and now is not None:
                self._client.delete_registered_model_alias(self.model, alias)
                moved.append(alias)
        return moved

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.model)
        if found is None:
            where = self._settings.artifacts or None
            with self._unless("RESOURCE_ALREADY_EXISTS"):
                self._client.create_experiment(self.model, artifact_location=where)
            found = self._client.get_experiment_by_name(self.model)
        return str(found.experiment_id)

    def _write(
        self,
        run: str,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        figures: list[Measured] | None = None,
    ) -> None:
        entities = package("mlflow.entities")
        given = [entities.Param(key, value) for key, value in (params or {}).items()]
        told = [entities.RunTag(key, value) for key, value in (tags or {}).items()]
        measured = [
            entities.Metric(one.key, one.value, _millis(one.at), one.step) for one in figures or ()
        ]
        for part in _parts(given, 100):
            self._client.log_batch(run, params=part)
        self._client.log_batch(run, tags=told)
        for part in _parts(measured, AT_ONCE - len(told)):
            self._client.log_batch(run, metrics=part)

    @contextlib.contextmanager
    def _unless(self, *codes: str) -> Iterator[None]:
        """Go on where MLflow refuses for a reason that is none to stop."""
        try:
            yield
        except self._failure as error:
            if _code(error) not in codes:
                raise


def _described(folder: Path, page: Page, content: bytes, run: str) -> None:
    """Write the files of a model as MLflow keeps them: no pickle of its own, keepfit loads it."""
    data = folder / "data"
    data.mkdir()
    (data / MODEL).write_bytes(content)
    (data / DIGEST).write_text(hashlib.sha256(content).hexdigest(), encoding="ascii")
    rests_on = {name: v for name, v in page.version.packages.items() if name != "python"}
    needs = "\n".join(f"{name}=={version}" for name, version in sorted(rests_on.items()))
    (folder / "requirements.txt").write_text(f"{needs}\n", encoding="utf-8")
    python = page.version.packages.get("python", sys.version.partition(" ")[0])
    (folder / "python_env.yaml").write_text(
        f'python: "{python}"\ndependencies:\n- -r requirements.txt\n', encoding="utf-8"
    )
    told = package("mlflow.models").Model(
        artifact_path=FOLDER,
        run_id=run,
        signature=_signature(page.version.features),
        metadata={"keepfit.version": page.name, "keepfit.digest": page.version.artifact},
    )
    told.add_flavor(
        "python_function",
        loader_module="keepfit.mirror.pyfunc",
        python_version=python,
        data="data",
        env={"virtualenv": "python_env.yaml"},
    )
    told.save(str(folder / "MLmodel"))


def _signature(features: tuple[str, ...]) -> Any:
    """Return the columns by name: what their values are is settled by the model itself."""
    types = package("mlflow.types")
    schema = package("mlflow.types.schema")
    columns = [types.ColSpec(schema.AnyType(), name, required=False) for name in features]
    return package("mlflow.models").ModelSignature(inputs=types.Schema(columns))


def _parts(values: list[Any], most: int) -> Iterator[list[Any]]:
    for first in range(0, len(values), most):
        yield values[first : first + most]


def _millis(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))
