"""The command as tests call it: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from keepfit.cli import app

FILE = '''"""A pipeline for the tests of the command."""

from pathlib import Path

from sklearn.linear_model import LogisticRegression

from keepfit import Pipeline, executors, gates, sources, triggers

churn = Pipeline(
    "churn",
    sources.Parquet(Path(__file__).parent / "rows", id="id", time="time", label="label"),
    LogisticRegression(),
    metric="roc_auc",
    every="5d",
    trigger=triggers.Every("10d"),
    gate=gates.NoWorse(within=0.01),
    enough=50,
    executor=executors.Inline(),
)
'''


LINEAR = Path(__file__).parent / "stories" / "served_pipeline.py"


def quick(file: str) -> str:
    """Return a pipeline's file whose learner is numpy alone: each process imports a library for seconds."""
    text = LINEAR.read_text()
    linear = text[text.index("class Linear") : text.index("churn = Pipeline")]
    file = file.replace("from sklearn.linear_model import LogisticRegression", "import numpy as np")
    return file.replace("LogisticRegression()", "Linear()").replace("churn =", linear + "churn =")


@dataclass(frozen=True)
class Said:
    """What a command wrote, and how it ended."""

    status: int
    out: str
    err: str

    def __iter__(self) -> Iterator[Any]:
        """Yield what is on stdout, a JSON value per line."""
        return (json.loads(line) for line in self.out.splitlines())

    @property
    def told(self) -> Any:
        """The one JSON value on stdout."""
        (value,) = self
        return value


def keepfit(folder: Path, *words: str) -> Said:
    """Run the command in this process, as if it had been started in a folder."""
    modules, path = set(sys.modules), list(sys.path)
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, list(words))
    for name in set(sys.modules) - modules:
        # A pipeline's file is a module of this process now, where the next test has its own.
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder.resolve())):
            del sys.modules[name]
    sys.path[:] = path
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


def started(folder: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command as a process of its own, with pipes to its output."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-m", "keepfit", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def process(folder: Path, *words: str, **options: Any) -> Said:
    """Run the command as a process of its own."""
    with started(folder, *words, **options) as child:
        out, err = child.communicate()
    return Said(child.returncode, out, err)
