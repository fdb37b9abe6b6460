"""The command as a process: signals, pipes, terminals, and its exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keepfit.__main__ import main as command
from keepfit.batch import Roles
from keepfit.interrupts import handed_on
from keepfit.server.order import Order
from tests.shell import FILE, Said, keepfit, process, quick, started
from tests.waits import PATIENCE
from tests.worlds import stream

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    # The worker process trains, as it does for a user.
    file = quick(FILE).replace("    executor=executors.Inline(),\n", "")
    (tmp_path / "churn.py").write_text(file)
    stream(40, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    return tmp_path


def interrupted(folder: Path, sent: signal.Signals, *words: str, at: str) -> Said:
    """Run the command, and send a signal to it and its children once a word is on the screen."""
    child = started(folder, *words, start_new_session=True)
    heard = []
    try:
        for line in child.stderr or ():
            heard.append(line)
            if at in line:
                break
        os.killpg(child.pid, sent)
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        pytest.fail(f"did not stop: {''.join(heard)}{err}")
    return Said(child.returncode, out, "".join(heard) + err)


# Signals --------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", STATUS, ids=lambda one: one.name)
def test_a_run_that_is_stopped_says_so_and_goes_on_where_it_was(
    folder: Path, sent: signal.Signals
) -> None:
    said = interrupted(folder, sent, "run", "churn.py", at="v1 promoted")
    assert said.status == STATUS[sent]
    assert said.err.endswith(
        "stopped between two facts; the same command goes on from the last one\n"
    )
    before = list(keepfit(folder, "log", "--json"))
    assert keepfit(folder, "run", "churn.py", "--once").status == 0
    facts = list(keepfit(folder, "log", "--json"))[::-1]
    assert facts[: len(before)] == before[::-1]
    assert [fact["seq"] for fact in facts] == list(range(1, len(facts) + 1))
    arrived = [fact for fact in facts if fact["kind"] == "Arrived"]
    assert [fact["batch"] for fact in arrived] == list(range(1, 9))
    assert sum(fact["rows"] for fact in arrived) == 2_000


@pytest.mark.parametrize("sent", STATUS, ids=lambda one: one.name)
def test_a_backtest_that_is_stopped_ends_as_if_it_had_not_been(
    folder: Path, sent: signal.Signals
) -> None:
    words = ("backtest", "churn.py", "--alone", "--every", "1d")
    said = interrupted(folder, sent, *words, at="v1 promoted")
    assert (said.status, said.out) == (STATUS[sent], "")
    assert "stopped: every model trained so far is kept in" in said.err
    assert "hint: the same command goes on from there" in said.err
    after, never_stopped = (
        keepfit(folder, *words, "--json", *home).told for home in ([], ["--home", "other"])
    )
    assert untimed(after) == untimed(never_stopped)


@pytest.mark.parametrize("sent", STATUS, ids=lambda one: one.name)
def test_a_server_and_its_loop_that_are_stopped_say_no_more_than_that(
    folder: Path, sent: signal.Signals
) -> None:
    said = interrupted(folder, sent, "up", "churn.py", "--port", "0", at="v1 promoted")
    assert said.status == STATUS[sent]
    assert said.err.endswith("stopped: what was answered is on disk\n")
    assert "Traceback" not in said.err
    assert "does not serve" not in said.err


def untimed(backtest: dict[str, Any]) -> dict[str, Any]:
    for policy in backtest["policies"]:
        del policy["fit_cpu_seconds"], policy["probe_cpu_seconds"]
    return backtest


def test_a_run_waits_for_more_and_says_how_to_end_it(folder: Path) -> None:
    said = interrupted(
        folder, signal.SIGINT, "run", "churn.py", "--poll", "1h", at="Ctrl-C ends it"
    )
    assert "looks for more every 1h" in said.err
    assert said.status == 130


# Pipes ----------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(folder: Path) -> None:
    assert keepfit(folder, "run", "churn.py", "--once").status == 0
    # A pipe that nobody reads takes nothing at all, not even what a buffer would hold.
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "keepfit", "log"],
            cwd=folder, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_what_is_piped_is_plain_text(folder: Path) -> None:
    said = process(folder, "backtest", "churn.py", "--alone")
    assert said.status == 0
    assert "policy" in said.out
    assert "v1 promoted" in said.err
    for text in (said.out, said.err):
        assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_screen_without_such_marks_gets_others(folder: Path) -> None:
    said = process(folder, "check", "churn.py", env={"PYTHONIOENCODING": "ascii"})
    assert said.status == 0
    assert said.out.startswith("churn - check - batch 1")


# Terminals ------------------------------------------------------------------------------


def on_terminal(folder: Path, *words: str, **environment: str) -> str:
    """Run the command on a terminal, and return what it showed there."""
    screen, end = pty.openpty()
    names = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    child = subprocess.Popen(
        [sys.executable, "-m", "keepfit", *words],
        cwd=folder, env=names | {"TERM": "xterm"} | environment, stdout=end, stderr=end,
    )  # fmt: skip
    os.close(end)
    shown = b""
    while True:
        try:
            part = os.read(screen, 4096)
        except OSError:  # the last one who could write has left
            break
        if not part:
            break
        shown += part
    os.close(screen)
    assert child.wait() == 0
    return shown.decode()


def test_a_terminal_gets_colour_unless_it_wants_none(tmp_path: Path) -> None:
    assert "\x1b[" in on_terminal(tmp_path, "init", "a")
    assert "\x1b[" not in on_terminal(tmp_path, "init", "b", NO_COLOR="1")
    assert "\x1b[" not in on_terminal(tmp_path, "init", "c", TERM="dumb")


def test_a_backtest_on_a_terminal_shows_a_bar_and_takes_it_away(folder: Path) -> None:
    shown = on_terminal(folder, "backtest", "churn.py", "--alone")
    assert "rows/s" in shown
    screen = shown[shown.rindex("\x1b[2K") :]
    assert "rows/s" not in screen
    assert "policy" in screen


# The door -------------------------------------------------------------------------------


def test_the_door_gives_the_exit_status_to_the_shell(folder: Path) -> None:
    done = process(folder, "check", "churn.py", "--json")
    assert (done.status, json.loads(done.out)["rows"]) == (0, 250)
    assert process(folder, "check", "nowhere.py").status == 2
    (folder / "raises.py").write_text("raise OSError('no disk')\n")
    said = process(folder, "run", "raises.py")
    assert (said.status, said.out) == (1, "")
    assert "no disk" in said.err
    assert "Traceback" not in said.err


def test_help_names_every_verb_on_a_line_of_its_own_and_the_exit_statuses(tmp_path: Path) -> None:
    shown = keepfit(tmp_path, "-h").out
    assert "..." not in shown.split("Commands:")[1]
    assert "3 blocked by a check" in shown
    assert keepfit(tmp_path, "--version").out.startswith("keepfit ")


# While it begins --------------------------------------------------------------------------


def test_ctrl_c_while_a_server_is_being_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    order = Order("churn", str(tmp_path), "churn.py", Roles(time="time", id="id"), 99, "", 1, False)
    with handed_on():
        child = subprocess.Popen(order.command(), stderr=subprocess.PIPE, text=True)
    child.send_signal(signal.SIGINT)  # before its first line has run
    _, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, "Traceback" in err) == (130, False)


def test_ctrl_c_while_the_command_is_being_loaded_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupts() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keepfit.cli.main", interrupts)
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 130
