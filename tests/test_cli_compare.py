"""Comparing policies from the command: what is asked for, what is told, what is written."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keepfit.cli import backtesting
from tests.shell import FILE, keepfit
from tests.worlds import stream

SMALL = FILE.replace('every="5d"', 'every="2d"').replace("gates.NoWorse(within=0.01)", "[]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline and rows."""
    made = tmp_path_factory.mktemp("compare")
    (made / "rows").mkdir()
    (made / "churn.py").write_text(SMALL)
    stream(30, 30).write_parquet(made / "rows" / "first.parquet")
    return made


def test_the_comparison_is_told_in_words_and_in_data(folder: Path) -> None:
    said = keepfit(folder, "backtest", "churn.py", "--compare", "OnDecay,periodic", "--jobs", "1")
    assert said.status == 0
    for words in ("of always", "regret", "precision", "churn (yours)", "take "):
        assert words in said.out
    assert max(map(len, said.out.splitlines())) <= 86
    told = keepfit(folder, "backtest", "churn.py", "--compare", "OnDecay,periodic", "--json").told
    names = {policy["policy"] for policy in told["policies"]}
    assert names == {"churn", "never", "every 4 d", "every 8 d", "OnDecay()", "always"}
    assert set(told["recommended"]) == {"policy", "trigger", "max_age", "because"}
    assert told["oracle"][0]["trainings"] == 1
    assert told["recommended"]["policy"] in said.out


def test_afterwards_the_looking_verbs_speak_of_the_pipeline_itself(folder: Path) -> None:
    keepfit(folder, "backtest", "churn.py", "--compare", "OnDecay", "--jobs", "1")
    assert keepfit(folder, "status", "--json").told["pipeline"] == "churn"
    assert keepfit(folder, "log", "--pipeline", "OnDecay()", "--json").status == 0


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        ("--write", "expected --compare with --write"),
        ("--jobs 2", "expected --compare with --jobs"),
        ("--within 0.1", "expected --compare with --within"),
        ("--alone --compare all", "expected --alone or --compare"),
        ("--compare OnDecy", "the nearest is 'OnDecay'"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(folder: Path, words: str, heard: str) -> None:
    said = keepfit(folder, "backtest", "churn.py", *words.split())
    assert (said.status, said.out) == (2, "")
    assert heard in said.err


def test_a_file_that_cannot_be_edited_stays_and_the_answer_is_told_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALL.replace("enough=50,", '**{"enough": 50},').replace('"10d"', '"2d"')
    (tmp_path / "rows").symlink_to(folder / "rows")
    (tmp_path / "churn.py").write_text(text)
    said = keepfit(tmp_path, "backtest", "churn.py", "--compare", "never", "--write", "--jobs", "1")
    assert "take never: triggers.OnEvent()" in said.out
    assert said.status == 2
    assert "churn.py is left as it is" in said.err
    assert (tmp_path / "churn.py").read_text() == text
    assert not (tmp_path / "churn.py.before").exists()


def test_never_is_written_with_a_maximum_age_and_the_file_is_kept_as_it_was(
    folder: Path, tmp_path: Path
) -> None:
    text = SMALL.replace('"10d"', '"2d"')
    (tmp_path / "rows").symlink_to(folder / "rows")
    (tmp_path / "churn.py").write_text(text)
    words = ("backtest", "churn.py", "--compare", "never", "--write", "--jobs", "1", "--json")
    told = keepfit(tmp_path, *words).told
    assert (told["recommended"]["policy"], told["recommended"]["max_age"]) == ("never", "27d")
    assert told["recommended"]["because"][0] == 'take never: triggers.OnEvent(), max_age="27d"'
    assert "so that training is never off for good" in " ".join(told["recommended"]["because"])
    written = (tmp_path / "churn.py").read_text()
    assert "trigger=triggers.OnEvent()" in written
    assert 'max_age="27d"' in written
    assert told["written"]["before"] == "churn.py.before"
    assert (tmp_path / "churn.py.before").read_text() == text


def test_a_file_written_twice_is_kept_as_it_was_each_time(tmp_path: Path) -> None:
    file = tmp_path / "churn.py"
    for content in (b"first", b"second", b"first", b"third", b"second"):
        file.write_bytes(content)
        assert backtesting._put(file, content, b"written").read_bytes() == content
        assert file.read_bytes() == b"written"
    kept = {one.name: one.read_bytes() for one in tmp_path.glob("churn.py.*")}
    assert kept == {
        "churn.py.before": b"first",
        "churn.py.before2": b"second",
        "churn.py.before3": b"third",
    }


def test_a_link_stays_one_and_the_file_behind_it_is_written(folder: Path, tmp_path: Path) -> None:
    text = SMALL.replace('"10d"', '"2d"')
    (tmp_path / "rows").symlink_to(folder / "rows")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "rows").symlink_to(folder / "rows")
    (tmp_path / "real" / "churn.py").write_text(text)
    (tmp_path / "churn.py").symlink_to("real/churn.py")
    words = ("backtest", "churn.py", "--compare", "never", "--write", "--jobs", "1")
    assert keepfit(tmp_path, *words).status == 0
    assert (tmp_path / "churn.py").is_symlink()
    assert "triggers.OnEvent()" in (tmp_path / "real" / "churn.py").read_text()
    assert (tmp_path / "real" / "churn.py.before").read_text() == text


@pytest.mark.parametrize("why", ["read only", "a folder in the way"])
def test_a_file_that_may_not_be_written_stays_and_all_is_told_in_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    text = SMALL.replace('"10d"', '"2d"')
    (tmp_path / "rows").symlink_to(folder / "rows")
    (tmp_path / "churn.py").write_text(text)
    if why == "read only":  # root may write to everything
        monkeypatch.setattr(backtesting.os, "access", lambda *_: False)
    else:
        (tmp_path / ".churn.py.before.unfinished").mkdir()
    words = ("backtest", "churn.py", "--compare", "never", "--write", "--jobs", "1", "--json")
    said = keepfit(tmp_path, *words)
    assert said.status == 2
    assert "churn.py is left as it is" in said.err
    assert 'write trigger=triggers.OnEvent(), max_age="27d" into it by hand' in said.err
    assert said.told["recommended"]["policy"] == "never"
    assert (tmp_path / "churn.py").read_text() == text


def test_a_gate_that_nobody_wrote_is_kept_when_a_trigger_is_written(tmp_path: Path) -> None:
    from tests.worlds import pipeline

    made = pipeline(stream(2), tmp_path)
    parts = backtesting.parts_to_write(made, 'triggers.Every("7d")')
    assert parts == {"trigger": 'triggers.Every("7d")', "gate": "gates.Fresher()"}
    made = pipeline(stream(2), tmp_path, gate=[])
    assert set(backtesting.parts_to_write(made, "triggers.OnEvent()")) == {"trigger"}


def test_a_maximum_age_that_the_pipeline_has_stays(tmp_path: Path) -> None:
    from tests.worlds import pipeline

    never, age = "triggers.OnEvent()", timedelta(days=40)
    made = pipeline(stream(2), tmp_path, gate=[])
    parts = backtesting.parts_to_write(made, never, age)
    assert parts == {"trigger": never, "max_age": '"40d"'}
    made = pipeline(stream(2), tmp_path, gate=[], max_age="9d")
    assert set(backtesting.parts_to_write(made, never, age)) == {"trigger"}


@pytest.mark.parametrize(
    ("enough", "step", "why", "asked"),
    [
        ("enough=5000", "2d", "nothing was trained", False),
        ("enough=1", "45min", "a longer step (every) puts more rows in each", True),
    ],
)
def test_where_nothing_has_a_value_what_helps_is_told(
    tmp_path: Path, enough: str, step: str, why: str, asked: bool
) -> None:
    (tmp_path / "rows").mkdir()
    stream(2, 30).write_parquet(tmp_path / "rows" / "first.parquet")
    text = SMALL.replace('every="2d"', f'every="{step}"').replace("enough=50", enough)
    (tmp_path / "churn.py").write_text(text)
    said = keepfit(tmp_path, "backtest", "churn.py", "--compare", "OnDecay", "--jobs", "1")
    assert said.status == 0
    assert "there is no window in which all have a value" in said.out
    assert why in said.out.replace("\n    ", " ")
    assert ("`keepfit why" in said.err) is asked
    assert "`keepfit log` tells all" in said.err
