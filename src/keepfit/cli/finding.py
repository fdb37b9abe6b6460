"""Finding what a command is about: the pipeline in a file, and the memory in a home."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit import terminal
from keepfit.cli.words import where
from keepfit.errors import ConfigError, KeepfitError, VersionUnknown, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from keepfit.ledger import Facts, Ledger
    from keepfit.pipeline import Pipeline
    from keepfit.registry import State

_NAMED = re.compile(r"(?P<file>.+\.py):(?P<name>[\w-]+)")
POLICIES = frozenset({"never", "always"})
_OWN = re.compile(r"[\w-]+")
"""A pipeline's name; the policies of a comparison are called by their triggers."""


# Files ----------------------------------------------------------------------------------


def load(file: str, home: Path | None = None) -> Pipeline:
    """Return the pipeline that a file holds; the file runs under its own name.

    Raises
    ------
    ConfigError
        There is no such file, it is no Python, or it holds no pipeline or several.
    KeepfitError
        The file raises an error of its own.
    """
    path, name = named(file)
    pipeline = _chosen(path, _held(_run(path)), name)
    return pipeline if home is None else pipeline.changed(home=home)


def named(file: str) -> tuple[Path, str | None]:
    """Return the file that ``churn.py`` or ``churn.py:churn`` names, and the pipeline in it.

    Examples
    --------
    >>> named("flows/churn.py:weekly")[1]
    'weekly'
    """
    match = _NAMED.fullmatch(file)
    return Path(match["file"] if match else file), match["name"] if match else None


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        near = beside(path, "*.py")
        raise ConfigError(
            f"expected a file with a pipeline, got {str(path)!r}, {absent(path)}",
            hint=f"the nearest is {near}" if near else "`keepfit init NAME` writes one",
        )
    path = path.resolve()
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) != str(path):
        raise ConfigError(
            f"{path.name} has the name of a module that Python needs",
            hint=f"rename it, to {path.stem}_pipeline.py for instance",
        )
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(
            f"expected a Python file, got {path.name!r}", hint="its name must end in .py"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except KeepfitError as problem:
        message = f"{problem.message} ({where(problem, path)})"
        raise type(problem)(message, hint=problem.hint) from problem
    except (Exception, SystemExit) as problem:
        written_wrongly = isinstance(problem, SyntaxError)
        raise (ConfigError if written_wrongly else KeepfitError)(
            f"{path.name} does not run: {type(problem).__name__}: {problem} ({where(problem, path)})",
            hint=f"`python {path.name}` shows the whole way there",
        ) from problem
    return module


def beside(path: Path, pattern: str) -> str | None:
    """Return the name most like a path's among the files of its folder."""
    if not path.parent.is_dir():
        return None
    return nearest(path.name, [one.name for one in path.parent.glob(pattern)])


def absent(path: Path) -> str:
    """Return what a path is, which should be another thing."""
    kind = "a folder" if path.is_dir() else "a file" if path.exists() else None
    return f"which is {kind}" if kind else "which is not there"


def _held(module: ModuleType) -> dict[str, Pipeline]:
    from keepfit.pipeline import Pipeline

    found = {name: value for name, value in vars(module).items() if isinstance(value, Pipeline)}
    first = {id(value): name for name, value in reversed(found.items())}
    return {name: found[name] for name in found if first[id(found[name])] == name}


def _chosen(path: Path, found: dict[str, Pipeline], name: str | None) -> Pipeline:
    if not found:
        raise ConfigError(
            f"{path.name} holds no pipeline",
            hint='make one at the top of the file: churn = Pipeline("churn", …)',
        )
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    names = ", ".join(found)
    if name is None:
        first = next(iter(found))
        raise ConfigError(
            f"{path.name} holds several pipelines: {names}", hint=f"name one: {path.name}:{first}"
        )
    for variable, pipeline in found.items():
        if name in (variable, pipeline.name):
            return pipeline
    near = nearest(name, [*found, *(pipeline.name for pipeline in found.values())])
    raise ConfigError(
        f"{path.name} holds no pipeline {name!r}; it holds {names}",
        hint=f"the nearest is {near!r}" if near else None,
    )


# Homes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """A pipeline as the ledger of a home knows it; ``past`` when it is that of a backtest."""

    home: Path
    name: str
    ledger: Ledger
    past: bool

    def facts(self) -> Facts:
        """Return its facts."""
        return self.ledger.facts(self.name)

    def state(self) -> State:
        """Return what its facts add up to."""
        from keepfit.registry import State

        return State().fold(self.facts())

    @property
    def option(self) -> str:
        """The option that names the home in a command, empty where none is needed."""
        return home_option(self.home)


def home_option(home: Path) -> str:
    """Return `` --home …`` unless the home is the default one."""
    return "" if home.resolve() == Path(".keepfit").resolve() else f" --home {home}"


def past_option(pipeline: Pipeline) -> str:
    """Return `` --backtest`` when a look without it would show the pipeline's live run."""
    from keepfit.home import places
    from keepfit.ledger import Ledger

    with Ledger(places(pipeline.home)["ledger"]) as ledger:
        return " --backtest" if pipeline.name in ledger.pipelines() else ""


def placed(file: str | None, home: Path | None, name: str | None) -> tuple[Path | None, str | None]:
    """Return home and name of the pipeline that a file holds; as they are without a file.

    Raises
    ------
    ConfigError
        As `load` does.
    """
    if file is None:
        return home, name
    pipeline = load(file, home)
    pipeline.close()
    return pipeline.home, name or pipeline.name


def find_home(home: Path | None) -> Path:
    """Return the home to read: the one named, else that of the current folder.

    Raises
    ------
    ConfigError
        There is no such folder.
    """
    chosen = Path(".keepfit") if home is None else home
    if not chosen.is_dir() and not (home is None and os.environ.get("KEEPFIT_LEDGER")):
        raise ConfigError(
            f"expected a home with a ledger, got {str(chosen)!r}, {absent(chosen)}",
            hint="`keepfit run FILE --once` makes it; FILE or --home names one elsewhere",
        )
    return chosen


@contextmanager
def known(
    home: Path | None, name: str | None, *, file: str | None = None, past: bool = False
) -> Iterator[Known]:
    """Open the ledger that knows a pipeline: the live one, else that of the last backtest.

    Where a file is named, the pipeline is the one in it.

    Raises
    ------
    ConfigError
        There is no such home, or it holds several pipelines and none was named.
    VersionUnknown
        No ledger in it knows the pipeline.
    """
    from keepfit.home import places
    from keepfit.ledger import Ledger

    home, name = placed(file, home, name)
    folder = find_home(home)
    live = Ledger(places(folder)["ledger"])
    backtest = Ledger(folder / "backtest" / "ledger.db")
    with live, backtest:
        running, played = live.pipelines(), backtest.pipelines()
        if not past and running and (name is None or name in running):
            yield Known(folder, _one_of(running, name, folder), live, past=False)
            return
        own = [one for one in played if one not in POLICIES and _OWN.fullmatch(one)] or played
        if own and (name is None or name in played):
            chosen = name if name in played else _one_of(own, name, folder)
            if not past:
                terminal.say(f"{chosen} has not run live yet: this is its last backtest\n", "dim")
            yield Known(folder, str(chosen), backtest, past=True)
            return
        raise _unknown(folder, name, played if past else [*running, *played], past)


def live_only(home: Path | None, name: str | None, *, file: str | None = None) -> tuple[Path, str]:
    """Return home and name of a pipeline that runs live, for the verbs that change it.

    Where a file is named, the pipeline is the one in it.

    Raises
    ------
    ConfigError
        There is no such home, or it holds several pipelines and none was named.
    VersionUnknown
        The live ledger does not know the pipeline.
    """
    from keepfit.home import places
    from keepfit.ledger import Ledger

    home, name = placed(file, home, name)
    folder = find_home(home)
    with Ledger(places(folder)["ledger"]) as ledger:
        running = ledger.pipelines()
    if not running or (name is not None and name not in running):
        raise _unknown(folder, name, running, past=False)
    return folder, _one_of(running, name, folder)


def _one_of(names: Sequence[str], name: str | None, folder: Path) -> str:
    if name is not None:
        return name
    if len(names) > 1:
        raise ConfigError(
            f"{folder} holds several pipelines: {', '.join(names)}",
            hint=f"name one: --pipeline {names[0]}",
        )
    return names[0]


def _unknown(folder: Path, name: str | None, names: Sequence[str], past: bool) -> VersionUnknown:
    where = f"{folder} has no backtest of" if past else f"the ledger in {folder} does not know"
    near = nearest(name, names) if name else None
    return VersionUnknown(
        f"{where} {'any pipeline' if name is None else f'the pipeline {name!r}'}",
        hint=f"the nearest is {near!r}"
        if near
        else "`keepfit run FILE --once` takes its first steps",
    )
