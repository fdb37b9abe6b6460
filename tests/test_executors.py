"""Executors: every way in which a training can end, for real, and the next one works."""

import importlib.util
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from keepfit import executors, learners, limits
from keepfit.batch import infinite
from keepfit.errors import ConfigError
from keepfit.facts import Outcome
from keepfit.protocols import Executor, Result, Task
from keepfit.testing.learners import rows_to_learn
from tests.waits import PATIENCE

MEGABYTE = 1_000_000
pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends processes by POSIX signals")


class Own:
    """An estimator of the user's own that does something on the way to the mean."""

    def __init__(self, act: str = "", where: str = "") -> None:
        self.act = act
        self.where = where

    def fit(self, X: Any, y: Any) -> "Own":
        getattr(self, self.act or "nothing")()
        self.mean = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean if self.act != "answer_nan" else np.nan)

    def nothing(self) -> None:
        pass

    answer_nan = nothing

    def note(self) -> None:
        with Path(self.where).open("a") as file:
            file.write(f"begin {os.getpid()}\n")
            file.flush()
            sum(range(200_000))
            file.write(f"end {os.getpid()}\n")

    def raise_error(self) -> None:
        rows = [self._bad("the third row is bad")]
        assert not rows

    def _bad(self, message: str) -> None:
        raise ValueError(message)

    def leave(self) -> None:
        print("leaving now")
        os._exit(3)

    def leave_politely(self) -> None:
        sys.exit("enough")

    def be_killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(f"child {child.pid}", flush=True)
        threading.Event().wait(600)

    def report_and_hang(self) -> None:
        Path(self.where).write_text(str(os.getpid()))
        threading.Event().wait(600)

    def fill_memory(self) -> None:
        held = []
        while len(held) < 300:
            held.append(np.ones(10 * MEGABYTE // 8))
            threading.Event().wait(0.01)

    def ask_too_much(self) -> None:
        np.ones(10**15)

    def talk(self) -> None:
        print('{"type":"answer","ended":true,"reason":"raised"}')
        sys.stdout.flush()
        os.write(1, b'{"type":"answer","ended":true}\n')
        print("not here", file=sys.stderr)
        assert sys.stdin.read() == ""

    def burn(self) -> None:
        code = "import time\nwhile time.process_time() < 0.3: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    def draw(self) -> None:
        self.drawn = [np.random.random(), np.random.default_rng(0).random()]
        self.words = {"auto", "north", "south", "east", "west"}
        self.mode = "auto" if self.act in {"draw", "paint", "sing", "dance"} else "none"


def task(act: str = "", where: Any = "", **settings: Any) -> Task:
    rows = rows_to_learn("regression", mixed=False, height=50)
    return Task(learner=learners.Sklearn(Own(act, str(where))), rows=rows, **settings)


@pytest.fixture(scope="module")
def local() -> Iterator[executors.Local]:
    with executors.Local() as executor:
        executor.warm_up()
        yield executor


def assert_works(executor: Executor) -> None:
    result = executor.run(task())
    assert result.reason is None, result.message
    assert result.model is not None


def assert_gone(pid: int) -> None:
    try:
        psutil.Process(pid).wait(timeout=PATIENCE)
    except psutil.NoSuchProcess:
        return


# How a training ends ----------------------------------------------------------------------


def test_a_training_gives_a_model_with_its_cost_and_packages(local: executors.Local) -> None:
    given = task()
    result = local.run(given)
    assert result.reason is None, result.message
    assert result.model is not None
    model = learners.loads(result.model)
    assert model.predict(given.rows)[0] == pytest.approx(given.rows["_label"].mean())
    assert result.cost.wall_seconds > 0
    assert result.cost.peak_bytes > 20 * MEGABYTE
    assert {"keepfit", "numpy", "polars", "python"} <= set(result.packages)


def test_an_exception_is_told_with_the_users_line(local: executors.Local) -> None:
    result = local.run(task("raise_error"))
    assert result.reason == "raised"
    assert result.model is None
    assert result.message.startswith("ValueError: the third row is bad")
    assert "in raise_error" in result.message
    assert Path(__file__).name in result.message
    assert "keepfit/worker.py" not in result.message
    # What is underlined at a terminal is not once its lines are wrapped.
    assert "^" not in result.message
    assert_works(local)


def test_an_error_of_keepfit_keeps_its_hint_and_needs_no_traceback(local: executors.Local) -> None:
    given = task()
    result = local.run(
        Task(learner=given.learner, rows=given.rows.with_columns(_label=pl.lit("a")))
    )
    assert result.reason == "raised"
    assert result.message == (
        "ConfigError: expected labels that are numbers, got String\n\n"
        "hint: text labels need a classifier"
    )


@pytest.mark.parametrize(
    ("act", "reason", "said"),
    [
        ("leave_politely", "raised", "SystemExit: enough"),
        ("ask_too_much", "out of memory", "Unable to allocate"),
        ("answer_nan", "not finite", "50 of 50 training rows with a score that is not finite"),
    ],
)
def test_a_training_without_a_usable_model_says_why(
    local: executors.Local, act: str, reason: str, said: str
) -> None:
    result = local.run(task(act))
    assert (result.reason, result.model) == (reason, None)
    assert said in result.message
    assert_works(local)


def test_a_training_that_ends_the_process_is_a_crash(local: executors.Local) -> None:
    result = local.run(task("leave"))
    assert result.reason == "crashed"
    assert "exit status 3" in result.message
    assert "leaving now" in result.message
    assert_works(local)


def test_a_kill_from_outside_is_a_crash_that_points_at_memory(local: executors.Local) -> None:
    result = local.run(task("be_killed"))
    assert result.reason == "crashed"
    assert "SIGKILL" in result.message
    assert "run out of memory" in result.message
    assert_works(local)


def test_a_hang_is_ended_with_all_that_it_started(local: executors.Local) -> None:
    result = local.run(task("hang", seconds=1.0))
    assert result.reason == "timed out"
    assert "longer than 1 s" in result.message
    assert 1.0 <= result.cost.wall_seconds < 30
    child = next(line for line in result.message.splitlines() if line.startswith("child"))
    assert_gone(int(child.split()[1]))
    assert_works(local)


def test_memory_over_the_limit_ends_the_training(local: executors.Local) -> None:
    result = local.run(task("fill_memory", bytes=700 * MEGABYTE))
    assert result.reason == "out of memory"
    assert "the limit is 700 MB" in result.message
    assert result.cost.peak_bytes > 700 * MEGABYTE
    assert result.cost.cpu_seconds > 0
    assert_works(local)


# Where no limit is stated -----------------------------------------------------------------


def test_a_hang_is_ended_where_no_limit_is_stated(
    local: executors.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNKNOWN_SECONDS", 1.0)
    result = local.run(task("hang"))
    assert result.reason == "timed out"
    assert result.message.startswith(
        "the training took longer than 1 s and was ended, the limit where none is stated\n\n"
        "hint: executors.Local(seconds=…) states another, seconds=math.inf none\n\n"
        "it printed:\nchild "
    )
    assert_works(local)


def test_the_limit_follows_what_a_training_is_expected_to_take() -> None:
    assert limits.seconds(None) == 86_400
    assert limits.seconds(0.01) == limits.seconds(180.0) == 3_600
    assert limits.seconds(10_000.0) == 200_000


@pytest.mark.parametrize(
    ("stated", "asked"), [({"seconds": 0.5}, {}), ({}, {"seconds": 0.5}), ({}, {"expected": 0.02})]
)
def test_a_stated_limit_and_what_is_expected_come_before_the_default(
    stated: dict[str, Any], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LEAST_SECONDS", 0.1)
    with executors.Local(**stated) as executor:
        result = executor.run(task("hang", **asked))
    said = "longer than 0.4 s" if "expected" in asked else "longer than 0.5 s"
    assert result.reason == "timed out"
    assert said in result.message
    assert ("hint: " in result.message) == ("expected" in asked)


def test_no_limit_can_be_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNKNOWN_SECONDS", 1e-6)
    monkeypatch.setattr(limits, "SHARE", 1e-9)
    with executors.Local(seconds=math.inf, bytes=math.inf) as executor:
        assert executor.run(task("burn")).reason is None


def test_memory_is_limited_by_what_the_machine_has(
    local: executors.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits.memory() <= 0.9 * psutil.virtual_memory().total
    monkeypatch.setattr(limits, "SHARE", 700 * MEGABYTE / (limits.memory() / limits.SHARE))
    result = local.run(task("fill_memory"))
    assert result.reason == "out of memory"
    assert "the limit is 700 MB, the limit where none is stated" in result.message
    assert "hint: executors.Local(bytes=…) states another" in result.message
    assert_works(local)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_memory_that_processes_share_counts_once() -> None:
    held = b"x" * 50 * MEGABYTE
    code = "import os, time\nheld = b'x' * 50_000_000\n[os.fork() for _ in range(2)]\n"
    asked = [sys.executable, "-c", f"{code}print(flush=True)\ntime.sleep(60)"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            for _ in range(4):
                parent.stdout.readline()
            process = psutil.Process(parent.pid)
            every = [process, *process.children(recursive=True)]
            assert len(every) == 4
            assert sum(one.memory_info().rss for one in every) > 4 * len(held)
            kept = limits.kept(one.pid for one in every)
            assert kept is None or len(held) < kept < 2.5 * len(held)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("own", "outer", "most"),
    [("max", "3000", 3_000), ("1000", "3000", 1_000), (None, "max", 9_000)],
)
def test_the_limit_of_a_container_is_heeded(
    own: str | None, outer: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("4:memory:/elsewhere\n0::/outer/own\n")
    (tmp_path / "outer" / "own").mkdir(parents=True)
    (tmp_path / "outer" / "memory.max").write_text(f"{outer}\n")
    if own is not None:
        (tmp_path / "outer" / "own" / "memory.max").write_text(f"{own}\n")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path)
    monkeypatch.setattr(limits, "_PROCESSES", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=9_000))
    assert limits.memory() == 0.9 * most


def test_what_a_training_prints_cannot_be_taken_for_an_answer(local: executors.Local) -> None:
    result = local.run(task("talk"))
    assert result.reason is None, result.message
    assert result.model is not None


def test_a_recipe_that_cannot_be_sent_is_told(local: executors.Local) -> None:
    learner = learners.Sklearn(Own())
    learner.estimator.held = threading.Lock()
    result = local.run(Task(learner=learner, rows=task().rows))
    assert result.reason == "raised"
    assert "cannot be sent to the worker" in result.message
    assert "lock" in result.message
    assert_works(local)


def test_bytes_that_are_no_model_fail_the_training_that_starts_from_them(
    local: executors.Local,
) -> None:
    result = local.run(task(start="champion", previous=b"keepfit model 1\nnot one"))
    assert result.reason == "raised"
    assert "ArtifactCorrupt" in result.message


# What it measures -------------------------------------------------------------------------


def test_cpu_seconds_count_the_training_and_its_children(local: executors.Local) -> None:
    idle = local.run(task())
    busy = local.run(task("burn"))
    assert busy.cost.cpu_seconds > 0.45
    assert idle.cost.cpu_seconds < 0.2


# The same everywhere ----------------------------------------------------------------------


def test_a_training_gives_the_same_bytes_here_and_in_the_worker(local: executors.Local) -> None:
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import SGDClassifier

    rows = rows_to_learn("binary")
    for estimator in (
        LGBMClassifier(n_estimators=10, subsample=0.5, subsample_freq=1),
        HistGradientBoostingClassifier(max_iter=5),
        RandomForestClassifier(5),
        SGDClassifier(),
        Own("draw"),
    ):
        given = Task(learner=learners.resolve(estimator), rows=rows, seed=11)
        here, there = executors.Inline().run(given), local.run(given)
        assert here.reason is there.reason is None, (here.message, there.message)
        assert here.model == there.model
        if ("champion", "all") in given.learner.ways:  # type: ignore[attr-defined]
            again = Task(
                learner=given.learner, rows=rows, start="champion", previous=here.model, seed=11
            )
            assert executors.Inline().run(again).model == local.run(again).model
            assert local.run(again).model != here.model


def test_a_class_of_a_file_that_is_gone_still_trains(
    local: executors.Local, tmp_path: Path
) -> None:
    file = tmp_path / "churn.py"
    file.write_text(
        textwrap.dedent("""
            SHIFT = 2.0
            def shifted(value):
                return value + SHIFT
            class Shifted:
                def fit(self, X, y):
                    self.value = shifted(0.0)
                    return self
                def predict(self, X):
                    return [self.value] * len(X)
        """)
    )
    spec = importlib.util.spec_from_file_location("churn_of_a_test", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["churn_of_a_test"] = module
    try:
        spec.loader.exec_module(module)
        file.unlink()
        given = Task(learner=learners.resolve(module.Shifted()), rows=task().rows)
        result = local.run(given)
        assert result.reason is None, result.message
        assert executors.Inline().run(given).model == result.model
    finally:
        del sys.modules["churn_of_a_test"]
    assert result.model is not None
    assert learners.loads(result.model).predict(given.rows)[0] == 2.0  # without the module


SCRIPT = """
import sys
with open(sys.argv[1], "a") as file:
    file.write("run\\n")

import numpy as np
import polars as pl
from keepfit import executors, learners, limits
from keepfit.protocols import Task

class Mean:
    def fit(self, X, y):
        self.mean = y.mean()
        return self
    def predict(self, X):
        return np.full(len(X), self.mean)

rows = pl.DataFrame({"x": [1.0, 2.0], "_label": [1.0, 3.0]})
with executors.Local() as local:
    result = local.run(Task(learner=learners.resolve(Mean()), rows=rows))
print(result.reason, learners.loads(result.model).predict(rows))
"""


def started(script: str, *arguments: Any, cwd: Path) -> "subprocess.Popen[str]":
    file = cwd / "script.py"
    file.write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, str(file), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_script_without_a_guard_is_run_once(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    said, _ = started(SCRIPT, runs, cwd=tmp_path).communicate(timeout=100)
    assert said == "None [2. 2.]\n"
    assert runs.read_text() == "run\n"


# The worker's life ------------------------------------------------------------------------


def pids(path: Path) -> list[str]:
    return [line.split()[1] for line in path.read_text().splitlines() if line.startswith("begin")]


def test_a_warm_worker_is_kept_and_a_cold_one_is_not(
    local: executors.Local, tmp_path: Path
) -> None:
    for _ in range(2):
        local.run(task("note", tmp_path / "warm"))
    first, second = pids(tmp_path / "warm")
    assert first == second != str(os.getpid())
    with executors.Local(warm=False) as cold:
        cold.run(task("note", tmp_path / "cold"))
    assert_gone(int(pids(tmp_path / "cold")[0]))


def test_trainings_of_two_threads_come_one_after_the_other(
    local: executors.Local, tmp_path: Path
) -> None:
    results: list[Result] = []
    given = task("note", tmp_path / "notes")
    threads = [threading.Thread(target=lambda: results.append(local.run(given))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.reason for result in results] == [None] * 4
    words = [line.split()[0] for line in (tmp_path / "notes").read_text().splitlines()]
    assert words == ["begin", "end"] * 4


def test_a_worker_that_died_while_it_waited_is_replaced(
    local: executors.Local, tmp_path: Path
) -> None:
    local.run(task("note", tmp_path / "notes"))
    pid = int(pids(tmp_path / "notes")[0])
    os.kill(pid, signal.SIGKILL)
    assert_gone(pid)
    assert_works(local)


# The signal may come while psutil has a file of /proc open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_ctrl_c_ends_the_worker_and_goes_on(local: executors.Local, tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def interrupt() -> None:
        while not (note.exists() and note.read_text()):
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # Where the tests were started in the background, interrupts are ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            local.run(task("report_and_hang", note))
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert_gone(int(note.read_text()))
    assert_works(local)


PARENT = """
import sys
sys.path[:0] = sys.argv[2:]
from test_executors import task
from keepfit import executors
local = executors.Local()
local.warm_up()
print(local._worker.folder, flush=True)
local.run(task("report_and_hang", sys.argv[1]))
"""


def test_a_worker_does_not_outlive_its_parent(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = started(PARENT, note, Path(__file__).parent, cwd=tmp_path)
    assert parent.stdout is not None
    folder = Path(parent.stdout.readline().strip())
    while not (note.exists() and note.read_text()):
        assert parent.poll() is None, parent.stdout.read()
        threading.Event().wait(0.02)
    worker = int(note.read_text())
    assert psutil.pid_exists(worker)
    assert folder.is_dir()
    parent.kill()
    parent.communicate()
    assert_gone(worker)
    assert not folder.exists()


def test_an_executor_leaves_no_files_behind(tmp_path: Path) -> None:
    executor = executors.Local()
    executor.warm_up()
    assert executor._worker is not None
    folder = executor._worker.folder
    assert folder.is_dir()
    executor.close()
    assert not folder.exists()
    executor.close()


@pytest.mark.parametrize("limit", [{"seconds": 0}, {"bytes": -1}])
def test_a_limit_that_is_none_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        executors.Local(**limit)


def test_an_executor_can_be_sent_and_shows_its_limits() -> None:
    executor = executors.Local(seconds=5, warm=False)
    assert repr(pickle.loads(pickle.dumps(executor))) == "executors.Local(seconds=5, warm=False)"


# In this process --------------------------------------------------------------------------


def test_inline_tells_failures_as_the_worker_does() -> None:
    here = executors.Inline()
    assert here.run(task("raise_error")).message.startswith("ValueError: the third row is bad")
    assert here.run(task("answer_nan")).reason == "not finite"
    assert here.run(task("leave_politely")).reason == "raised"
    assert_works(here)


class Daily(Own):
    """Answers no number at the last hour of the day, which is 1.66 deviations above the mean."""

    def predict(self, X: Any) -> Any:
        return np.where(np.asarray(X)[:, 0] > 1.6, np.nan, self.mean)


def test_a_model_that_answers_no_number_at_one_hour_is_found_among_many_rows() -> None:
    hours = np.arange(96_000) % 24
    rows = pl.DataFrame({"hour": hours, "_label": hours * 0.5})
    result = executors.Inline().run(Task(learner=learners.Sklearn(Daily()), rows=rows))
    assert result.reason == "not finite"


def test_inline_leaves_the_callers_chance_as_it_was() -> None:
    np.random.seed(1)
    wanted = np.random.random()
    np.random.seed(1)
    executors.Inline().run(task("draw", seed=5))
    assert np.random.random() == wanted


# Rows with infinite values ----------------------------------------------------------------


def odd_rows(count: int) -> pl.DataFrame:
    """Return rows to learn of which so many are infinite in a number."""
    rows = rows_to_learn("binary")
    rows = pl.concat([rows] * -(-1_000 // rows.height)).head(1_000)
    name = next(one.name for one in rows if one.dtype.is_float() and one.name != "_label")
    places = pl.int_range(1_000) % 90 == 5
    places = places & (places.cum_sum() <= count)
    numbers = [one.name for one in rows if one.dtype.is_numeric()]
    return (
        rows.select(numbers)
        .fill_null(0)
        .fill_nan(0)
        .with_columns(pl.when(places).then(float("inf")).otherwise(name).alias(name))
    )


def scaled() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def test_a_training_goes_on_without_the_few_rows_that_its_learner_fails_on(
    local: executors.Local,
) -> None:
    rows = odd_rows(10)
    learner = learners.resolve(scaled())
    sound = executors.Inline().run(
        Task(learner=learner, rows=rows.filter(~infinite(rows)), seed=11)
    )
    for executor in (executors.Inline(), local):
        result = executor.run(Task(learner=learner, rows=rows, seed=11))
        assert result.reason is None, result.message
        assert result.model == sound.model
        (told,) = result.findings
        assert told.outcome is Outcome.WARN
        assert (told.value, told.limit) == (10, 0.01)
        held = next(one.name for one in rows if one.dtype.is_float() and one.is_infinite().any())
        assert told.column == held
        assert told.message == (
            f"10 of 1,000 training rows hold infinite values in `{held}` and were left out"
        )
        assert "Input X contains infinity" in told.hint
    assert not sound.findings


def test_of_more_than_a_hundredth_no_remainder_is_learnt() -> None:
    given = Task(learner=learners.resolve(scaled()), rows=odd_rows(11), seed=11)
    result = executors.Inline().run(given)
    assert result.reason == "raised"
    assert result.message.startswith("TrainingError: ")
    assert "takes no infinite values" in result.message
    assert not result.findings


def test_a_learner_that_takes_infinite_values_keeps_them() -> None:
    from lightgbm import LGBMClassifier

    rows = odd_rows(10)
    learner = learners.resolve(LGBMClassifier(n_estimators=5))
    result = executors.Inline().run(Task(learner=learner, rows=rows, seed=11))
    direct = learner.fit(rows, start="scratch", update="all", previous=None, seed=11)
    assert result.model == direct.dumps()
    assert not result.findings


class Poisoned:
    """A learner in which one infinite value makes every answer none, or which fails on all rows."""

    fingerprint, ways, parameters = "poisoned", (("scratch", "all"),), {}

    def __init__(self, inner: Any, error: str = "") -> None:
        self.inner, self.error, self.tries = inner, error, 0

    def fit(self, rows: pl.DataFrame, **given: Any) -> Any:
        self.tries += 1
        if self.error:
            raise ValueError(f"{self.error}, try {self.tries}")
        odd = infinite(rows)
        model = self.inner.fit(rows.filter(~odd), **given)
        if odd.any():
            model.predict = lambda asked: np.full(asked.height, np.nan)
        return model


def test_a_model_that_infinite_values_have_made_useless_is_learnt_without_them() -> None:
    inner = learners.resolve(scaled())
    result = executors.Inline().run(Task(learner=Poisoned(inner), rows=odd_rows(3), seed=1))
    assert result.reason is None
    assert [one.value for one in result.findings] == [3]
    assert "not finite" in result.findings[0].hint
    many = executors.Inline().run(Task(learner=Poisoned(inner), rows=odd_rows(11), seed=1))
    assert many.reason == "not finite"


def test_what_is_wrong_with_all_rows_is_told_as_it_was_first() -> None:
    inner = learners.resolve(scaled())
    learner = Poisoned(inner, "no such table")
    result = executors.Inline().run(Task(learner=learner, rows=odd_rows(3), seed=1))
    assert (result.reason, learner.tries) == ("raised", 2)
    assert result.message.startswith("ValueError: no such table, try 1")
    learner = Poisoned(inner, "no such table")
    executors.Inline().run(Task(learner=learner, rows=odd_rows(0), seed=1))
    assert learner.tries == 1
