"""Serving beside the peers: one LightGBM model, one load, one run; keepfit writes everything down."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import Silent, Tool, say
from peers.report import table
from peers.serving import NAMES, PINNED, Server, Wire, World, made, running

ROWS = Wire("/predict", lambda rows: {"rows": rows}, lambda told: told["predictions"])


def _ours(rows: Sequence[Sequence[float]]) -> Any:
    named = [dict(zip(NAMES, row, strict=True)) for row in rows]
    return named[0] if len(named) == 1 else named


OURS = Tool("**keepfit**, every answer on disk first", "keepfit_serving", "serve")
FASTAPI = Tool("FastAPI, no log", "fastapi_serving", "app", "fastapi", "fastapi")
MLFLOW = Tool("MLflow `models serve`", "mlflow_serving", "tensor", "mlflow", "mlflow")
BENTOML = Tool("BentoML", "bentoml_serving", "plain", "bentoml", "bentoml")
BATCHED = Tool("BentoML, batched", "bentoml_serving", "batched", "bentoml", "bentoml")
LITSERVE = Tool("LitServe", "litserve_serving", "plain", "litserve", "litserve")
FLOOR = Tool("floor: the same bytes for every request", "floor_serving", "bytes")
WIRES = {
    OURS: Wire("/predict/served", _ours, lambda told: [told["probability"]]),
    FASTAPI: ROWS,
    MLFLOW: Wire("/invocations", lambda rows: {"inputs": rows}, lambda told: told["predictions"]),
    BENTOML: Wire("/predict", lambda rows: {"rows": rows}, lambda told: told),
    BATCHED: Wire("/predict", lambda rows: {"rows": rows}, lambda told: told),
    LITSERVE: ROWS,
    FLOOR: Wire("/", lambda rows: {"rows": rows}, lambda told: []),
}


@dataclass(frozen=True)
class Setting:
    """A load: rows of a request, and connections that ask at once."""

    rows: int
    connections: int

    def __str__(self) -> str:
        of = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{of}, {self.connections} conn."


SETTINGS = (Setting(1, 1), Setting(1, 16), Setting(1, 64), Setting(100, 16))


def main(*, quick: bool = False) -> list[str]:
    """Return the lines of the report."""
    seconds = 1.5 if quick else 6.0
    folder = Path(tempfile.mkdtemp(prefix="keepfit-serve-"))
    try:
        world = made(folder)
        found = {tool: _measured(tool, world, seconds) for tool in WIRES}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [*_head(seconds), *_speed(found), "", *_costs(found), "", *_load(found[FLOOR]), ""]


Found = dict[str, Any] | Silent


def _measured(tool: Tool, world: World, seconds: float) -> Found:
    say(tool.label.replace("**", ""))
    try:
        with running(tool, WIRES[tool], world) as server:
            memory = server.memory()
            loads = {one: _loaded(server, tool, world, one, seconds) for one in SETTINGS}
            return {
                "loads": loads,
                "start": server.started,
                "memory": memory,
                "after": server.memory(),
                "processes": len(server.processes()),
                "version": tool.version(),
            }
    except Silent as silent:
        say("  ", silent)
        return silent


def _loaded(server: Server, tool: Tool, world: World, setting: Setting, seconds: float) -> Found:
    try:
        found = server.load(WIRES[tool], world, setting.rows, setting.connections, seconds)
    except Silent as silent:
        say("  ", setting, silent)
        return silent
    say("  ", setting, f"{found['rate']:,.0f} a second, p99 {1e3 * found['p99']:.2f} ms")
    return found


def _head(seconds: float) -> list[str]:
    pinned = "the server on one core, the load on another" if PINNED else "no cores set apart"
    return [
        "## Serving beside the peers",
        "",
        "One LightGBM classifier (20 features, 100 trees), the same file for all; "
        f"{seconds:g} s a cell after one of warming, {pinned}. Requests a second / p50 ms / p99 ms; "
        "in brackets how many times as many keepfit answers.",
        "",
    ]


def _speed(found: dict[Tool, Found]) -> list[str]:
    rows = [[tool.label, *(_cell(found, tool, one) for one in SETTINGS)] for tool in found]
    lines = table(["", *map(str, SETTINGS)], rows)
    reasons = [
        f"- {tool.label}: {answer}" for tool, answer in found.items() if isinstance(answer, Silent)
    ]
    return [*lines, *(["", *reasons] if reasons else [])]


def _seen(found: dict[Tool, Found], tool: Tool, setting: Setting) -> dict[str, Any] | None:
    whole = found[tool]
    if isinstance(whole, Silent):
        return None
    one: Found = whole["loads"][setting]
    return None if isinstance(one, Silent) else one


def _cell(found: dict[Tool, Found], tool: Tool, setting: Setting) -> str:
    seen, ours = _seen(found, tool, setting), _seen(found, OURS, setting)
    if seen is None:
        return "–"
    told = f"{seen['rate']:,.0f} / {1e3 * seen['p50']:.2f} / {1e3 * seen['p99']:.2f}"
    if ours is None or tool in (OURS, FLOOR):
        return told
    return f"{told} ({ours['rate'] / seen['rate']:.3g}×)"


def _costs(found: dict[Tool, Found]) -> list[str]:
    """Return what servers cost: CPU of a request, memory, and the time until the first answer."""
    head = [
        "CPU µs a request",
        *map(str, SETTINGS),
        "MiB at the start",
        "MiB after",
        "processes",
        "start",
        "version",
    ]
    rows = []
    for tool, whole in found.items():
        if isinstance(whole, Silent):
            continue
        cpu = [
            "–" if seen is None else f"{1e6 * seen['server']:,.0f}"
            for seen in (_seen(found, tool, one) for one in SETTINGS)
        ]
        held = [f"{whole['memory']:,.0f}", f"{whole['after']:,.0f}", whole["processes"]]
        rows.append([tool.label, *cpu, *held, f"{whole['start']:.1f} s", whole["version"]])
    note = "Memory is the proportional set size (PSS) of all processes of a server."
    return [*table(head, rows), "", note]


def _load(floor: Found) -> list[str]:
    """Return what the load itself can do, so that it is seen not to be what is measured."""
    if isinstance(floor, Silent):
        return [f"The load's own floor is not known: {floor}."]
    told = []
    for setting, seen in floor["loads"].items():
        if not isinstance(seen, Silent):
            told.append(f"{setting}: {seen['rate']:,.0f} ({1e6 * seen['cpu']:.0f} µs of its CPU)")
    return [f"The load reaches against the floor, requests a second: {'; '.join(told)}."]
