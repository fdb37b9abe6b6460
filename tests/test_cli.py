"""The command, verb by verb: what it answers, what it says on the side, how it ends."""

from __future__ import annotations

import re
import shutil
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from keepfit.cli import setting_up
from keepfit.ledger import Ledger
from tests.shell import FILE, Said, keepfit
from tests.worlds import stream

END = datetime(2024, 2, 10, tzinfo=UTC)
STRICT = FILE.replace("gates.NoWorse(within=0.01)", "gates.AtLeast(0.999)")
"""A pipeline whose gate lets nothing through but the first champion."""


def written(folder: Path, file: str = STRICT) -> Path:
    """Return a folder with a pipeline and forty days of rows."""
    (folder / "rows").mkdir()
    (folder / "churn.py").write_text(file)
    stream(40, 50).write_parquet(folder / "rows" / "first.parquet")
    return folder


@pytest.fixture(scope="module")
def _ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = written(tmp_path_factory.mktemp("ran"))
    assert keepfit(folder, "run", "churn.py", "--once").status == 0
    return folder


@pytest.fixture
def ran(_ran: Path, tmp_path: Path) -> Path:
    """A folder in which the pipeline has run: v1 serves, the later ones were refused."""
    # The cache of ids may still be open, and vanish while it is copied: it is made again.
    return shutil.copytree(_ran, tmp_path / "ran", ignore=shutil.ignore_patterns("index.db*"))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with a pipeline and rows, in which nothing has run."""
    return written(tmp_path)


def arrive(folder: Path, *without: str) -> None:
    """Let ten more days arrive, perhaps without some columns."""
    later = stream(50, 50).filter(pl.col("time") >= END)
    later.drop(without).write_parquet(folder / "rows" / "later.parquet")


def failed(said: Said, status: int, *heard: str) -> None:
    """Assert that a command ended with a status, words on the side, and nothing on stdout."""
    assert (said.status, said.out) == (status, "")
    assert "Traceback" not in said.err
    for words in heard:
        assert words in said.err


# Answers --------------------------------------------------------------------------------


def test_check_tells_what_it_found_and_writes_nothing(fresh: Path) -> None:
    told = keepfit(fresh, "check", "churn.py", "--json").told
    assert (told["pipeline"], told["batch"], told["rows"]) == ("churn", 1, 250)
    assert {finding["check"] for finding in told["findings"]} == {
        "Schema",
        "Nulls",
        "Unique",
        "Classes",
    }
    assert not (fresh / ".keepfit").exists()


def test_run_tells_every_fact_once_and_in_order(fresh: Path) -> None:
    said = keepfit(fresh, "run", "churn.py", "--once", "--json")
    assert said.status == 0
    assert [fact["seq"] for fact in said] == list(range(1, len(list(said)) + 1))
    assert "v1 promoted" in said.err
    assert list(keepfit(fresh, "log", "--json")) == list(said)[::-1]


def test_run_with_nothing_new_says_so(ran: Path) -> None:
    said = keepfit(ran, "run", "churn.py", "--once", "--json")
    assert (said.status, said.out) == (0, "")
    assert "nothing new" in said.err


def test_run_says_why_a_source_brings_nothing(fresh: Path) -> None:
    (fresh / "rows" / "first.parquet").unlink()
    said = keepfit(fresh, "run", "churn.py", "--once")
    assert "nothing new" in said.err
    assert "no .parquet files at" in said.err


def test_a_backtest_answers_with_every_policy(fresh: Path) -> None:
    said = keepfit(fresh, "backtest", "churn.py", "--json")
    found = said.told
    assert set(found) >= {"pipeline", "metric", "rows", "from", "to", "policies"}
    names = [policy["policy"] for policy in found["policies"]]
    assert names[0] == "churn"
    assert {"never", "always"} < set(names)
    assert any(name.startswith("every ") for name in names)
    for policy in found["policies"]:
        assert set(policy) == {
            "policy", "value", "interval", "trainings", "promoted", "refused", "rolled_back",
            "fit_cpu_seconds", "probe_cpu_seconds", "judged", "undecided", "undecided_by",
            "unscored", "windows",
        }  # fmt: skip
        assert all(set(window) == {"from", "to", "n", "value"} for window in policy["windows"])


def test_the_looking_verbs_speak_of_the_last_backtest_until_there_is_a_run(fresh: Path) -> None:
    assert "`keepfit log` tells all" in keepfit(fresh, "backtest", "churn.py", "--alone").err
    said = keepfit(fresh, "status", "--json")
    assert said.told["champion"] == "v1"
    assert "has not run live yet" in said.err
    assert "--force" not in keepfit(fresh, "why", "v2").out
    failed(keepfit(fresh, "promote", "v2", "--reason", "r", "--force"), 2, "keepfit run FILE")


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--json"),
        ("why", "v1", "--json"),
        ("log", "--limit", "3", "--json"),
        ("diff", "v1", "v2", "--json"),
        ("doctor", "--json"),
    ],
    ids=" ".join,
)
def test_the_looking_verbs_take_the_file_that_run_takes(
    ran: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    verb, *others = words
    file = "ran/churn.py"
    from_there = keepfit(tmp_path, verb, file, *others)
    assert from_there.status == 0, from_there.err
    heard = list(keepfit(ran, *words))
    if verb == "doctor":
        assert from_there.told["home"] == str(ran / ".keepfit")
    elif verb == "status":
        assert from_there.told["champion"] == heard[0]["champion"]
    else:
        assert list(from_there) == heard
    # Before the other words and after them, after options, and as an option.
    assert keepfit(tmp_path, verb, "--json", f"{file}:churn", *others).status == 0
    assert keepfit(tmp_path, verb, *others, file).status == 0
    assert keepfit(tmp_path, *words, "--file", file).status == 0


def test_the_hands_take_the_file_that_run_takes(ran: Path, tmp_path: Path) -> None:
    file = "ran/churn.py"
    # What is the value of an option is no file, whatever it looks like.
    assert keepfit(tmp_path, "pause", "--reason", "churn.py", file).status == 0
    assert "churn.py" in keepfit(ran, "status", "--json").told["paused"]
    assert keepfit(tmp_path, "resume", file, "--reason", "done").status == 0
    assert (
        keepfit(tmp_path, "promote", file, "v2", "--force", "--reason", "it is better").status == 0
    )
    assert keepfit(ran, "status", "--json").told["champion"] == "v2"
    assert keepfit(tmp_path, "rollback", file, "--reason", "it is not").status == 0
    assert keepfit(tmp_path, "token", "make", file, "shop", "--role", "predict").status == 0
    assert "shop" in keepfit(ran, "token", "list").out


def test_a_verb_that_needs_the_file_takes_it_behind_its_other_words(
    ran: Path, tmp_path: Path
) -> None:
    found = [
        keepfit(tmp_path, "reproduce", *words, "--json").told
        for words in (("ran/churn.py", "v1"), ("v1", "ran/churn.py"))
    ]
    assert found[0]["same"]
    assert [one["version"] for one in found] == ["v1", "v1"]
    assert keepfit(ran, "run", "--once", "churn.py").status == 0
    failed(keepfit(ran, "reproduce", "v1"), 2, "expected a file with a pipeline")


def test_a_file_that_is_not_there_is_told_by_every_verb_alike(ran: Path) -> None:
    for words in (("status", "chrun.py"), ("why", "chrun.py", "v1"), ("run", "chrun.py")):
        failed(keepfit(ran, *words), 2, "expected a file with a pipeline", "nearest is churn.py")


def test_how_a_verb_is_used_names_the_file(ran: Path) -> None:
    assert "keepfit why [OPTIONS] [FILE] [VERSION]" in keepfit(ran, "why", "--help").out
    assert "[FILE]" not in keepfit(ran, "run", "--help").out


def test_after_a_run_a_backtest_says_how_to_look_at_it(ran: Path) -> None:
    said = keepfit(ran, "backtest", "churn.py", "--alone")
    assert "`keepfit log --backtest` tells all" in said.err
    assert keepfit(ran, "status", "--backtest", "--json").told["asked_at"] < "2025"


def test_the_looking_verbs_answer_in_json(ran: Path) -> None:
    assert keepfit(ran, "status", "--json").told["champion"] == "v1"
    assert keepfit(ran, "why", "v2", "--json").told["state"] == "refused"
    assert keepfit(ran, "why", "--json").told["version"] is None
    assert keepfit(ran, "diff", "v1", "v2", "--json").told["differences"]
    kinds = {fact["kind"] for fact in keepfit(ran, "log", "--kind", "Trained", "--json")}
    assert kinds == {"Trained"}
    assert len(list(keepfit(ran, "log", "-n", "3", "--json"))) == 3
    assert keepfit(ran, "doctor", "--json").told["problems"] == []


def test_the_looking_verbs_print_what_they_know_on_stdout_alone(ran: Path) -> None:
    for words in (["status"], ["why", "v2"], ["why"], ["diff", "v1", "v2"], ["log"], ["doctor"]):
        said = keepfit(ran, *words)
        assert (said.status, said.err) == (0, "")
        assert said.out.strip()
    assert "needs at least 0.9990" in keepfit(ran, "why", "v2").out
    assert "keepfit promote v2 --force" in keepfit(ran, "why", "v2").out


def test_home_may_lie_elsewhere(fresh: Path) -> None:
    assert keepfit(fresh, "run", "churn.py", "--once", "--home", "far/away").status == 0
    assert not (fresh / ".keepfit").exists()
    assert keepfit(fresh, "status", "--home", "far/away", "--json").told["champion"] == "v1"
    failed(keepfit(fresh, "status"), 2, ".keepfit", "hint:")


def test_init_writes_a_pipeline_and_a_test_that_run(tmp_path: Path) -> None:
    told = keepfit(tmp_path, "init", "orders", "--json").told
    assert told == {"pipeline": "orders", "files": ["orders.py", "test_orders.py"]}
    rows = tmp_path / "orders-rows"
    rows.mkdir()
    stream(20, 50).write_parquet(rows / "first.parquet")
    assert keepfit(tmp_path, "check", "orders.py", "--json").told["rows"] == 350
    played = keepfit(tmp_path, "backtest", "orders.py", "--alone", "--json").told
    assert played["policies"][0]["promoted"] >= 1


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_orders.py").write_text("mine")
    failed(keepfit(tmp_path, "init", "orders"), 2, "test_orders.py is there already")
    assert [path.name for path in tmp_path.iterdir()] == ["test_orders.py"]
    failed(keepfit(tmp_path, "init", "two words"), 2, "a name that Python can import")


# The human hand -------------------------------------------------------------------------


def test_what_a_gate_refused_is_promoted_by_force_alone_and_taken_back(ran: Path) -> None:
    said = keepfit(ran, "promote", "v2", "--reason", "the board wants it")
    failed(said, 4, "GateRefused", "needs at least 0.9990", "keepfit promote v2 --force")
    forced = ("promote", "v2", "--force", "--reason", "the board wants it", "--json")
    told = keepfit(ran, *forced).told
    assert (told["champion"], told["previous"]) == ("v2", "v1")
    failed(keepfit(ran, "promote", "v2", "--reason", "again"), 2, "v2 is the champion already")
    said = keepfit(ran, "rollback", "--reason", "it was worse", "--json")
    assert said.told["champion"] == "v1"
    assert "it was worse" in said.err
    (fact,) = keepfit(ran, "log", "--kind", "RolledBack", "--json")
    assert (fact["version"], fact["to"], fact["reason"]) == ("v2", "v1", "it was worse")
    assert fact["rows"] > 0, "it answered stored rows before it served"


def test_a_promotion_is_forced_only_where_a_gate_stood_in_the_way(ran: Path) -> None:
    keepfit(ran, "promote", "v2", "--force", "--reason", "r")
    assert "against its gate" in keepfit(ran, "promote", "v3", "--force", "--reason", "r").err
    assert "against its gate" not in keepfit(ran, "promote", "v1", "--force", "--reason", "r").err


def test_without_a_previous_version_there_is_no_way_back(ran: Path) -> None:
    failed(keepfit(ran, "rollback", "--reason", "r"), 1, "RollbackFailed", "hint:")


def test_a_paused_pipeline_collects_and_does_not_train(ran: Path) -> None:
    assert keepfit(ran, "pause", "--reason", "holiday", "--json").told["paused"] == "holiday"
    arrive(ran)
    kinds = [fact["kind"] for fact in keepfit(ran, "run", "churn.py", "--once", "--json")]
    assert "Arrived" in kinds
    assert "Trained" not in kinds
    assert "paused" in keepfit(ran, "status").out
    assert keepfit(ran, "resume", "--reason", "back", "--json").told["paused"] is None


def test_train_trains_now_and_the_gate_still_judges(ran: Path) -> None:
    said = keepfit(ran, "train", "churn.py", "--reason", "new prices", "--json")
    assert said.status == 4
    kinds = [fact["kind"] for fact in said.told["facts"]]
    # Three windows have come to differ, and are all tried.
    assert kinds == ["Decided", *["TrainingStarted"] * 3, *["Trained"] * 3, *["Judged"] * 3]
    assert "new prices" in said.told["facts"][0]["decision"]["reason"]


@pytest.mark.parametrize(
    "words",
    ["promote v1", "approve v1", "refuse v1", "rollback", "pause", "resume", "train churn.py"],
)
def test_the_human_hand_gives_a_reason(ran: Path, words: str) -> None:
    failed(keepfit(ran, *words.split()), 2, "--reason")
    failed(keepfit(ran, *words.split(), "--reason", " "), 2, "expected a reason", "hint:")


# Checks and quarantine ------------------------------------------------------------------


def test_a_broken_batch_is_blocked_until_a_person_lets_it_in(ran: Path) -> None:
    arrive(ran, "x")
    said = keepfit(ran, "check", "churn.py", "--json")
    assert said.status == 3
    blocked = [one for one in said.told["findings"] if one["outcome"] == "block"]
    assert [one["column"] for one in blocked] == ["x"]
    ended = keepfit(ran, "run", "churn.py", "--once")
    assert (ended.status, ended.out) == (3, "")
    assert "keepfit check churn.py --accept" in ended.err
    held = [one["batch"] for one in keepfit(ran, "status", "--json").told["quarantined"]]
    assert held == [9, 10]
    failed(keepfit(ran, "check", "churn.py", "--accept"), 2, "--reason")
    failed(keepfit(ran, "check", "churn.py", "--accept", "3", "--reason", "r"), 2, "(9, 10), got 3")
    accepted = keepfit(ran, "check", "churn.py", "--accept", "9", "--reason", "known", "--json")
    assert (accepted.told["kind"], accepted.told["batch"]) == ("Overridden", 9)
    assert keepfit(ran, "check", "churn.py", "--accept", "--reason", "known").status == 0
    assert keepfit(ran, "status", "--json").told["quarantined"] == []
    went_on = keepfit(ran, "run", "churn.py", "--once", "--json")
    assert went_on.status == 0
    assert "Scored" in [fact["kind"] for fact in went_on]


# Predictions ----------------------------------------------------------------------------


def test_predict_scores_a_table_of_any_format_into_any(ran: Path) -> None:
    rows = stream(3, 10).drop("label")
    rows.write_parquet(ran / "ask.parquet")
    rows.write_csv(ran / "ask.csv")
    rows.write_ndjson(ran / "ask.jsonl")
    answers = []
    for asked in ("ask.parquet", "ask.csv", "ask.jsonl"):
        told = keepfit(ran, "predict", "churn.py", asked, "--to", "new/out.parquet", "--json").told
        assert (told["version"], told["rows"]) == ("v1", 30)
        answers.append(pl.read_parquet(ran / "new" / "out.parquet"))
    assert answers[0].columns == ["id", "prediction", "probability"]
    assert answers[0].equals(answers[1])
    assert answers[0].equals(answers[2])
    keepfit(ran, "predict", "churn.py", "ask.csv", "--to", "out.csv")
    assert pl.read_csv(ran / "out.csv").equals(answers[0])
    shown = keepfit(ran, "predict", "churn@v1", "ask.csv")
    assert pl.read_csv(shown.out.encode()).equals(answers[0].drop("id"))
    lines = list(keepfit(ran, "predict", "churn.py:churn", "ask.csv", "--json"))
    assert [line["id"] for line in lines] == list(range(30))


def test_predict_says_what_it_lacks(ran: Path, fresh: Path) -> None:
    stream(1, 10).drop("x").write_parquet(ran / "ask.parquet")
    failed(keepfit(ran, "predict", "churn.py", "ask.parquet"), 1, "SchemaMismatch", "`x`", "hint:")
    near = "the nearest is ask.parquet"
    failed(keepfit(ran, "predict", "churn.py", "asks.parquet"), 2, "which is not there", near)
    failed(keepfit(ran, "predict", "churn.py", "churn.py"), 2, "ends in .parquet")
    failed(keepfit(ran, "predict", "chrun@v1", "ask.parquet"), 2, "the nearest is 'churn'")
    (ran / "ask.csv").write_text("id,x\n1,2,3\n")
    failed(keepfit(ran, "predict", "churn.py", "ask.csv"), 1, "SourceError", "ask.csv")
    lacking = keepfit(fresh, "predict", "churn.py", "rows/first.parquet")
    failed(lacking, 1, "NoChampion", "hint: `keepfit run churn.py` trains the first one")


# Wrong use ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        ("check chrun.py", "the nearest is churn.py"),
        ("check rows", "which is a folder"),
        ("check broken.py", "broken.py, line 1"),
        ("check empty.py", "holds no pipeline"),
        ("check wrong.py", "(wrong.py, line 4)"),
        ("check churn.py:chrun", "the nearest is 'churn'"),
        ("check several.py", "first, second"),
        ("check churn.py 3", "--accept"),
        ("backtset churn.py", "Did you mean 'backtest'?"),
        ("why v1x", "the nearest is 'v1'"),
        ("diff v1 champoin", "the nearest is 'champion'"),
        ("log --kind Promotd", "did you mean 'Promoted'?"),
        ("log --since yesterday", "2024-01-31"),
        ("status --pipeline chrun", "the nearest is 'churn'"),
        ("status --home nowhere", "which is not there"),
        ("status --home churn.py", "which is a file"),
        ("doctor --home nowhere", "which is not there"),
    ],
)
def test_wrong_use_is_said_with_the_way_out(ran: Path, words: str, heard: str) -> None:
    (ran / "broken.py").write_text("def :\n")
    (ran / "empty.py").write_text("x = 1\n")
    (ran / "wrong.py").write_text(
        "from keepfit import sources\n\n\n"
        "rows = sources.Parquet('rows', time='time', label_delay='14 days')\n"
    )
    named = FILE.replace("churn = Pipeline", "first = Pipeline")
    (ran / "several.py").write_text(f"{named}\nsecond = first.changed(name='other')\n")
    failed(keepfit(ran, *words.split()), 2, heard)


def test_a_file_with_several_pipelines_wants_one_named(fresh: Path) -> None:
    file = FILE.replace("churn = Pipeline", "first = Pipeline")
    (fresh / "churn.py").write_text(f"{file}\nsecond = first.changed(name='other')\n")
    failed(keepfit(fresh, "check", "churn.py"), 2, "hint: name one: churn.py:first")
    for name in ("second", "other"):
        assert keepfit(fresh, "check", f"churn.py:{name}", "--json").told["pipeline"] == "other"


# Failures -------------------------------------------------------------------------------

OWN = '''"""A pipeline whose source has an error of its own."""

from sklearn.linear_model import LogisticRegression

from keepfit import Pipeline, sources


class Mine(sources.Parquet):
    def read(self, cursor, *, now, every):
        raise ZeroDivisionError("divided by nothing")


mine = Pipeline("mine", Mine("rows", time="time", label="label"), LogisticRegression())
'''


def test_an_error_of_the_users_is_told_with_its_place_and_no_traceback(fresh: Path) -> None:
    (fresh / "raises.py").write_text("def half(n):\n    return n / 0\n\n\nhalf(2)\n")
    said = keepfit(fresh, "check", "raises.py")
    failed(said, 1, "ZeroDivisionError", "raises.py, line 2", "`python raises.py`")
    (fresh / "mine.py").write_text(OWN)
    for verb in ("check", "run"):
        failed(keepfit(fresh, verb, "mine.py"), 1, "divided by nothing", "mine.py, line 10")


def test_who_debugs_sees_the_whole_way(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "mine.py").write_text(OWN)
    monkeypatch.setenv("KEEPFIT_DEBUG", "1")
    assert "Traceback" in keepfit(fresh, "check", "mine.py").err


@pytest.mark.parametrize("home", ["taken", "taken/below", "/dev/null/below"])
@pytest.mark.parametrize("verb", ["run", "backtest"])
def test_a_home_that_cannot_be_made_is_said(fresh: Path, verb: str, home: str) -> None:
    (fresh / "taken").write_text("a file")
    failed(keepfit(fresh, verb, "churn.py", "--home", home), 1, "cannot be made", "hint:")


def test_a_run_says_who_else_holds_the_pipeline(fresh: Path) -> None:
    (fresh / ".keepfit").mkdir()
    with Ledger(fresh / ".keepfit" / "ledger.db") as ledger, ledger.lease("churn") as lease:
        said = keepfit(fresh, "run", "churn.py", "--once")
        assert (said.status, said.out) == (0, "")
        assert f"left to another process: {lease.holder} holds pipeline" in said.err
        failed(keepfit(fresh, "train", "churn.py", "--reason", "r"), 1, lease.holder)
        assert ledger.seq("churn") == 0
    assert keepfit(fresh, "run", "churn.py", "--once").status == 0


def test_doctor_finds_what_is_damaged(ran: Path) -> None:
    stored = ran / ".keepfit" / "artifacts"
    (trained,) = (one for one in keepfit(ran, "log", "--kind", "Trained", "--json")
                  if one["version"] == "v1")  # fmt: skip
    model = stored / trained["artifact"]
    content = model.read_bytes()
    model.unlink()
    assert "the model of churn@v1, is not there" in keepfit(ran, "doctor").out
    model.write_bytes(content[:-1])
    said = keepfit(ran, "doctor", "--json")
    assert said.status == 1
    assert any("damaged" in problem for problem in said.told["problems"])
    model.write_bytes(content)
    assert keepfit(ran, "doctor").status == 0


def test_doctor_knows_every_extra_and_names_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    asked = tomllib.loads(text)["project"]["optional-dependencies"]
    names = {
        extra: {re.split(r"[\[>=;]", one)[0] for one in wanted if not one.startswith("keepfit[")}
        for extra, wanted in asked.items()
        if extra not in ("all", "dev")
    }
    assert {extra: set(known) for extra, known in setting_up.EXTRAS.items()} == {
        extra: found or {extra} for extra, found in names.items()
    }
    monkeypatch.setitem(setting_up.EXTRAS, "serve", ("starlette", "no-such-server"))
    monkeypatch.setitem(setting_up.EXTRAS, "river", ("no-such-river",))
    packages = setting_up._packages()
    assert packages["no-such-river"] is None
    absent = setting_up._absent(packages)
    assert {"keepfit[river] (no-such-river)", "keepfit[serve] (no-such-server)"} <= {*absent}
    monkeypatch.setattr(setting_up, "EXTRAS", {"serve": ("starlette",), "numpy": ("numpy",)})
    assert setting_up._absent(setting_up._packages()) == []


def test_a_ledger_cut_short_is_said_to_be_damaged(ran: Path) -> None:
    ledger = ran / ".keepfit" / "ledger.db"
    ledger.write_bytes(ledger.read_bytes()[:20_000])
    said = keepfit(ran, "doctor")
    assert said.status == 1
    assert "damaged" in said.out
    failed(keepfit(ran, "status"), 1, "damaged", "hint:")
    failed(keepfit(ran, "run", "churn.py", "--once"), 1, "damaged", "hint:")
