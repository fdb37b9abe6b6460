"""Models that others registered in MLflow: found, fetched and opened."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
import weakref
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keepfit.errors import ConfigError, ExtraMissing, KeepfitError
from keepfit.facts import Origin
from keepfit.mirror.store import package

FLAVORS = ("lightgbm", "xgboost", "catboost", "sklearn")
LARGEST = 1 << 30
"""Bytes of a model of another kind, of which the whole folder is kept."""

_NAMED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_PLAIN = {
    "lightgbm": {"lightgbm.basic.Booster"},
    "xgboost": {
        *("xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"),
        "xgboost.sklearn.XGBRegressor",
    },
    "catboost": {"CatBoost", "CatBoostClassifier", "CatBoostRegressor"},
}
"""The forms whose files hold numbers alone: they are opened without a word of trust."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A registered model, opened; ``columns`` is empty where it does not say what it needs."""

    origin: Origin
    estimator: Any
    columns: tuple[str, ...]
    packages: dict[str, str]
    made_at: datetime


class Foreign:
    """A model that only MLflow knows how to ask: its folder, kept whole, opened when it is asked."""

    def __init__(self, folder: bytes) -> None:
        self._folder = folder
        self._model: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_model": None}

    def predict(self, table: Any) -> Any:
        """Return what the model says of a frame.

        Raises
        ------
        ExtraMissing
            MLflow is not installed.
        """
        if self._model is None:
            place = tempfile.mkdtemp(prefix="keepfit-")
            # It stays while the model does, which may read from it at any time.
            weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
            with zipfile.ZipFile(io.BytesIO(self._folder)) as packed:
                packed.extractall(place)
            self._model = package("mlflow.pyfunc").load_model(place)
        return self._model.predict(table)


def fetch(spec: str, tracking_uri: str, registry_uri: str = "", *, trust: bool = False) -> Fetched:
    """Return the model that ``models:/name@alias`` or ``models:/name/3`` names.

    Raises
    ------
    ConfigError
        The name is written wrongly, there is no such model, or opening it may run code and
        ``trust`` was not given.
    KeepfitError
        MLflow cannot be reached.
    ExtraMissing
        MLflow, or the library of the model, is not installed.
    """
    registry = registry_uri or tracking_uri
    client = package("mlflow.tracking").MlflowClient(tracking_uri, registry)
    named = _NAMED.fullmatch(spec)
    if named is None:
        raise ConfigError(
            f"expected a registered model, got {spec!r}",
            hint="write models:/churn@champion or models:/churn/3",
        )
    found = _found(client, spec, named)
    with tempfile.TemporaryDirectory(prefix="keepfit-") as place:
        place_of = client.get_model_version_download_uri(found.name, found.version)
        folder = Path(
            package("mlflow.artifacts").download_artifacts(
                artifact_uri=place_of, dst_path=place, tracking_uri=tracking_uri
            )
        )
        described = package("mlflow.models").Model.load(str(folder))
        flavor = next((one for one in FLAVORS if one in described.flavors), "python_function")
        name = f"models:/{found.name}/{found.version}"
        if not trust and not _plain(flavor, described.flavors):
            raise ConfigError(
                f"{name} can run code when it is opened: it is kept as a pickle or as code ({flavor})",
                hint="--trust opens it, if you know who made it",
            )
        origin = Origin(
            uri=name,
            model=found.name,
            version=str(found.version),
            run=found.run_id or "",
            digest=_digest(folder),
            flavor=flavor,
        )
        estimator = _opened(folder, flavor, name)
        columns = _columns(described, estimator)
    return Fetched(
        origin, estimator, columns, _packages(described), _moment(found.creation_timestamp)
    )


def _found(client: Any, spec: str, named: re.Match[str]) -> Any:
    failure = package("mlflow.exceptions").MlflowException
    try:
        if named["alias"]:
            return client.get_model_version_by_alias(named["name"], named["alias"])
        return client.get_model_version(named["name"], named["version"])
    except failure as error:
        said = str(error).splitlines()[0]
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise ConfigError(f"expected a registered model, got {spec!r}: {said}") from error
        raise KeepfitError(f"{spec} cannot be asked for: {said}") from error


def _plain(flavor: str, flavors: dict[str, Any]) -> bool:
    told = flavors.get(flavor, {})
    kind = told.get("model_class") or told.get("model_type")
    return kind in _PLAIN.get(flavor, ()) and not told.get("code")


def _opened(folder: Path, flavor: str, name: str) -> Any:
    if flavor == "python_function":
        return Foreign(_packed(folder, name))
    try:
        return package(f"mlflow.{flavor}").load_model(str(folder))
    except ImportError as error:
        raise ExtraMissing(
            f"expected the package `{error.name or flavor}` to open {name}, and it is not installed",
            hint=f"pip install {error.name or flavor}",
        ) from error


def _packed(folder: Path, name: str) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    if size > LARGEST:
        raise ConfigError(
            f"expected at most {LARGEST:,} bytes of {name}, whose folder is kept whole, got {size:,}"
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(folder))
    return packed.getvalue()


def _digest(folder: Path) -> str:
    """Return a digest of all files of a folder, by name and content."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _columns(described: Any, estimator: Any) -> tuple[str, ...]:
    """Return the columns a model needs: by its signature, or by what it remembers."""
    schema = described.get_input_schema()
    if schema is not None and schema.has_input_names():
        return tuple(schema.input_names())
    for name in ("feature_names_in_", "feature_names_", "feature_name", "feature_names"):
        found = getattr(estimator, name, None)
        if callable(found):
            found = found()
        if found is not None and len(found):
            return tuple(map(str, found))
    return ()


def _packages(described: Any) -> dict[str, str]:
    """Return the versions of libraries that the model's description names."""
    told = {f"{name}": flavor for name, flavor in described.flavors.items() if name in FLAVORS}
    found = {"mlflow": str(described.mlflow_version)} if described.mlflow_version else {}
    for name, flavor in told.items():
        version = next((v for key, v in flavor.items() if key.endswith("_version")), None)
        if version:
            found["scikit-learn" if name == "sklearn" else name] = str(version)
    return found


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
