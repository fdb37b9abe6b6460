"""A live run that is killed a hundred times loses nothing and doubles nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from keepfit import Ledger, datasets
from keepfit.facts import Arrived, Promoted, Trained, TrainingFailed, TrainingStarted
from keepfit.lake import Delta
from keepfit.registry import State

CHILD = Path(__file__).with_name("killed_child.py")
PHASES = (
    "collect",
    "check",
    "watch",
    "decide",
    "start",
    "train",
    "judge",
    "append",
    "recover",
    "predict",
)
KILLS = 100


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flights")
    frame = datasets.flights(months=1)
    for number, part in enumerate(frame.gather_every(4).iter_slices(3_000)):
        part.write_parquet(folder / f"part-{number:03}.parquet")
    return folder


class Runs:
    """Runs over flights, each in a process of its own; called, it returns how one ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, home: Path, phase: str, seconds: float) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{home}\t{phase}\t{seconds}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture
def run(flights: Path) -> Iterator[Runs]:
    command = [sys.executable, str(CHILD), str(flights)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Runs(process)


def trainings(home: Path) -> list[tuple[str, str]]:
    with Ledger(home / "ledger.db") as ledger:
        facts = [entry.fact for entry in ledger.facts("flights", kind="TrainingStarted")]
    return [(fact.version, fact.key) for fact in facts if isinstance(fact, TrainingStarted)]


@pytest.mark.timeout(1200)
def test_a_run_killed_a_hundred_times_ends_like_one_that_was_not(
    flights: Path, run: Runs, tmp_path: Path
) -> None:
    rng = random.Random(0)
    home = tmp_path / "killed"
    for kill in range(KILLS):
        phase = PHASES[kill // 2 % len(PHASES)] if kill % 2 else "any"
        moments = [0.05 * (1 + kill % 5)] if phase == "any" else [0.0, 0.001, 0.005, 0.02, 0.05]
        assert run(home, phase, rng.choice(moments)) == -signal.SIGKILL, (kill, phase)
    assert run(home, "never", 0) == 0
    calm = tmp_path / "calm"
    assert run(calm, "never", 0) == 0
    everything = pl.read_parquet(flights / "*.parquet")
    check_rows(home, everything)
    check_facts(home, everything.height)
    assert trainings(home) == trainings(calm)


def check_rows(home: Path, everything: pl.DataFrame) -> None:
    lake = home / "lake" / "flights"
    rows = pl.read_delta(str(lake / "rows"))
    labels = pl.read_delta(str(lake / "labels"))
    assert sorted(rows["_id"]) == sorted(everything["id"])
    assert sorted(labels["_id"]) == sorted(everything.drop_nulls("late")["id"])
    predictions = pl.read_delta(str(lake / "predictions"))
    assert predictions["_id"].is_unique().all()
    assert Delta(str(lake)).problems() == []


def check_facts(home: Path, rows: int) -> None:
    with Ledger(home / "ledger.db") as ledger:
        assert ledger.check() == []
        entries = list(ledger.facts("flights"))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    facts = [entry.fact for entry in entries]
    arrived = [fact for fact in facts if isinstance(fact, Arrived)]
    assert [fact.batch for fact in arrived] == list(range(1, len(arrived) + 1))
    assert sum(fact.rows for fact in arrived) == rows
    once(facts, (Trained, TrainingFailed))
    once(facts, (TrainingStarted,))
    state, champion = State(), None
    for entry in entries:
        state.fold([entry])
        if isinstance(entry.fact, Promoted):
            assert entry.fact.previous == champion
            champion = entry.fact.version
    assert [version.name for version in state.versions.values() if version.state == "champion"] == [
        champion
    ]
    assert len([fact for fact in facts if isinstance(fact, Promoted)]) >= 3


def once(facts: Sequence[object], kinds: tuple[type, ...]) -> None:
    versions = [fact.version for fact in facts if isinstance(fact, kinds)]
    assert len(versions) == len(set(versions))
