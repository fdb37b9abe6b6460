"""What the processes that estimate do alike: load scores, fit, estimate chunk by chunk, answer.

Runs in the peers' environments, as `peers.harness` does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peers.harness import Columns, Meter, repeats


@dataclass(frozen=True)
class Scored:
    """Rows that a model answered: labels, scores and, where they are used, features."""

    labels: np.ndarray
    scores: np.ndarray
    features: Columns | None = None

    @classmethod
    def load(cls, folder: Path) -> Scored:
        """Read what `save` wrote."""
        answers = np.load(folder / "answers.npz")
        features = folder / "features.npz"
        return cls(
            answers["labels"],
            answers["scores"],
            Columns.load(features) if features.exists() else None,
        )

    def head(self, rows: int) -> Scored:
        """Return the first rows."""
        features = None if self.features is None else self.features.part(0, rows)
        return Scored(self.labels[:rows], self.scores[:rows], features)

    @staticmethod
    def save(
        folder: Path,
        labels: np.ndarray,
        scores: np.ndarray,
        numbers: Mapping[str, np.ndarray] | None = None,
        categories: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Write answers, and features as `Columns` does."""
        folder.mkdir(parents=True)
        np.savez(folder / "answers.npz", labels=labels, scores=scores)
        if numbers or categories:
            Columns.save(folder / "features.npz", numbers or {}, categories or {})


@dataclass(frozen=True)
class Said:
    """An estimate of one chunk, with its interval."""

    value: float
    low: float
    high: float


class EstimateTool:
    """One tool and one way of using it; `fit` and `estimate` are timed apart."""

    def __init__(self, chunk: int, metrics: list[str]) -> None:
        self.chunk = chunk
        self.metrics = metrics

    def table(self, rows: Scored, *, labelled: bool) -> Any:
        """Return the rows in the form that the tool takes; without labels after the reference."""
        raise NotImplementedError

    def fit(self, reference: Any) -> Any:
        """Return what an estimate needs."""
        raise NotImplementedError

    def estimate(self, fitted: Any, rows: Any) -> Any:
        """Estimate every metric of every chunk of rows."""
        raise NotImplementedError

    def said(self, result: Any, metric: str) -> list[Said]:
        """Return the estimates of one metric, chunk by chunk."""
        raise NotImplementedError


def spans(rows: int, chunk: int) -> Iterator[slice]:
    """Cut rows in whole chunks, as all tools are asked to; none may be left over."""
    if rows % chunk:
        raise ValueError(f"expected a multiple of {chunk} rows, got {rows}")
    return (slice(start, start + chunk) for start in range(0, rows, chunk))


def estimates(tools: Mapping[str, type[EstimateTool]]) -> None:
    """Answer one question about estimates, on the command line, with one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=tools)
    parser.add_argument("reference", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--chunk", type=int, default=10_000)
    parser.add_argument("--metrics", default="roc_auc", help="with commas between them")
    parser.add_argument("--repeats", type=int, default=1, help="the most to measure")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds after which to stop")
    asked = parser.parse_args()
    tool = tools[asked.tool](asked.chunk, asked.metrics.split(","))
    print(json.dumps(_answer(tool, asked)))


def _answer(tool: EstimateTool, asked: argparse.Namespace) -> dict[str, Any]:
    known = Scored.load(asked.reference)
    if asked.repeats > 1:  # it is timed: what is imported late is there before
        few = known.head(2 * asked.chunk)
        fitted = tool.fit(tool.table(few, labelled=True))
        tool.estimate(fitted, tool.table(few, labelled=False))
    reference = tool.table(known, labelled=True)
    rows = tool.table(Scored.load(asked.rows), labelled=False)
    fitting, fitted = Meter(), None
    for _ in repeats(asked.repeats, asked.budget):
        fitted = None
        fitted = fitting.time(partial(tool.fit, reference))
    fit = fitting.answer()
    meter = Meter()
    result = None
    for _ in repeats(asked.repeats, asked.budget):
        result = None
        result = meter.time(partial(tool.estimate, fitted, rows))
    return {
        "fit": fit,
        **meter.answer(),
        "said": {
            metric: [(one.value, one.low, one.high) for one in tool.said(result, metric)]
            for metric in tool.metrics
        },
    }
