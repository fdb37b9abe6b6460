"""A pipeline starts from another one's champion: found, copied, checked, told and repeated."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import SGDClassifier
from tests.worlds import DAY, START, live, play, source, stream

from keepfit import Challenger, Pipeline, executors, triggers
from keepfit.errors import ConfigError
from keepfit.facts import Entry, Trained, TrainingFailed, TrainingStarted
from keepfit.loop import Loop
from keepfit.reproduce import reproduce
from keepfit.results import Why

SMALL = {"n_estimators": 10, "num_leaves": 7, "verbosity": -1}


def pipeline(name: str, frame: pl.DataFrame, home: Path, **parts: Any) -> Pipeline:
    defaults: dict[str, Any] = {
        "metric": "roc_auc",
        "every": "1d",
        "home": home,
        "executor": executors.Inline(),
        "challengers": [Challenger()],
        "trigger": triggers.Every("4d"),
        "enough": 100,
        "gate": [],
    }
    learner = parts.pop("learner", LGBMClassifier(**SMALL))
    return Pipeline(name, source(frame), learner, **(defaults | parts))


def lived(name: str, home: Path, frame: pl.DataFrame | None = None, **parts: Any) -> Loop:
    rows = stream(6, 60) if frame is None else frame
    loop = live(pipeline(name, rows, home, **parts), START + 6 * DAY)
    play(loop, 1)
    return loop


def second(home: Path, start: str = "first@champion", **parts: Any) -> Loop:
    """Return a pipeline on rows of its own, with a column more, that starts from another's."""
    rows = stream(6, 60, seed=7).with_columns(more=pl.col("x") * 2)
    where = parts.pop("where", None)
    recipe = Challenger(start=start, home=where)
    return lived("second", home, rows, **({"challengers": [recipe]} | parts))


def test_the_first_model_starts_from_the_others_champion(tmp_path: Path) -> None:
    first = lived("first", tmp_path / "home")
    loop = second(tmp_path / "home")
    version = loop.state.versions["v1"]
    donor = first.state.versions[first.state.champion or ""]
    assert version.state != "failed"
    assert (version.start, version.parent) == ("transfer", None)
    assert version.donor is not None
    assert (version.donor.pipeline, version.donor.version) == ("first", donor.name)
    assert version.donor.artifact == donor.artifact
    assert version.transferred is not None
    assert version.transferred.new_columns == ("more",)
    assert version.transferred.parts == ("10 trees kept, 10 new",)
    assert loop.state.champion is not None


def test_why_tells_what_was_taken_over(tmp_path: Path) -> None:
    lived("first", tmp_path / "home")
    loop = second(tmp_path / "home")
    told = repr(Why.of("second", loop.state, "v1", loop.memory.ledger.facts("second")))
    assert "from first@v" in told
    assert "3 columns of first matched, 50% of this model is its" in told
    assert "new columns: more" in told
    assert "10 trees kept, 10 new" in told


def test_a_donor_of_another_home_is_copied_and_no_longer_needed(tmp_path: Path) -> None:
    lived("first", tmp_path / "theirs")
    loop = second(tmp_path / "ours", where=tmp_path / "theirs")
    shutil.rmtree(tmp_path / "theirs")
    for name in loop.state.versions:
        assert reproduce(loop, name).same


def test_an_older_version_is_named_by_its_number(tmp_path: Path) -> None:
    first = lived("first", tmp_path / "home", stream(12, 60))
    assert len(first.state.versions) > 1
    loop = second(tmp_path / "home", "first@v1")
    donor = loop.state.versions["v1"].donor
    assert donor is not None
    assert donor.artifact == first.state.versions["v1"].artifact


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("nobody@champion", "expected a pipeline 'nobody' to start from"),
        ("first@v99", "expected a version or an alias, got 'v99'"),
    ],
    ids=["pipeline", "version"],
)
def test_a_donor_that_is_not_there_fails_the_training_and_not_the_loop(
    tmp_path: Path, start: str, message: str
) -> None:
    lived("first", tmp_path / "home")
    loop = second(tmp_path / "home", start)
    version = loop.state.versions["v1"]
    assert version.state == "failed"
    assert message in version.message
    failed = next(
        entry.fact
        for entry in loop.memory.ledger.facts("second")
        if isinstance(entry.fact, TrainingFailed)
    )
    assert failed.reason == "no donor"


def test_a_donor_without_a_champion_is_named(tmp_path: Path) -> None:
    lived("empty", tmp_path / "home", stream(1, 3), trigger=triggers.AfterRows(1_000))
    loop = second(tmp_path / "home", "empty@champion")
    assert loop.state.versions["v1"].message == "'empty' has no champion to start from"


def test_a_damaged_donor_is_not_opened(tmp_path: Path) -> None:
    first = lived("first", tmp_path / "theirs")
    digest = first.state.versions[first.state.champion or ""].artifact
    path = first.memory.artifacts.path(digest)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"another model")
    loop = second(tmp_path / "ours", where=tmp_path / "theirs")
    assert "is damaged" in loop.state.versions["v1"].message


def test_a_donor_of_another_library_fails_with_the_way_out(tmp_path: Path) -> None:
    lived("first", tmp_path / "home", learner=SGDClassifier(loss="log_loss"))
    loop = second(tmp_path / "home")
    assert "can go on with" in loop.state.versions["v1"].message


def backtested(home: Path, frame: pl.DataFrame, start: str) -> list[Entry]:
    made = pipeline("second", frame, home, challengers=[Challenger(start=start)])
    heard: list[Entry] = []
    made.backtest(compare=False, listen=heard.append)
    return heard


def test_a_backtest_starts_from_no_donor_that_has_seen_the_future(tmp_path: Path) -> None:
    first = lived("first", tmp_path / "home", stream(12, 60))
    rows = stream(14, 60, seed=7)
    donors = []
    for entry in backtested(tmp_path / "home", rows, "first@champion"):
        if isinstance(entry.fact, TrainingStarted) and entry.fact.donor is not None:
            assert not entry.fact.donor.missing
            seen = first.state.versions[entry.fact.donor.version].snapshot.to
            assert seen < entry.at
            donors.append(entry.fact.donor.version)
    assert donors[0] == "v1"
    assert donors[-1] != "v1"


def test_a_named_donor_fails_until_the_backtest_has_come_past_its_rows(tmp_path: Path) -> None:
    first = lived("first", tmp_path / "home", stream(12, 60))
    newest = list(first.state.versions)[-1]
    rows = stream(20, 60, seed=7)
    heard = backtested(tmp_path / "home", rows, f"first@{newest}")
    failed = [entry for entry in heard if isinstance(entry.fact, TrainingFailed)]
    trained = [entry for entry in heard if isinstance(entry.fact, Trained)]
    assert "still to come" in failed[0].fact.message  # type: ignore[union-attr]
    assert failed[-1].at <= first.state.versions[newest].snapshot.to < trained[0].at


def test_a_version_that_the_donor_has_not_is_named_with_it_in_a_backtest_too(
    tmp_path: Path,
) -> None:
    lived("first", tmp_path / "home", stream(12, 60))
    heard = backtested(tmp_path / "home", stream(14, 60, seed=7), "first@v99")
    failed = [one.fact for one in heard if isinstance(one.fact, TrainingFailed)]
    assert failed[0].message.startswith("'first': expected a version")


@pytest.mark.parametrize("start", ["@champion", "first@", "a@b@c"])
def test_a_donor_is_named_by_pipeline_and_version(start: str) -> None:
    with pytest.raises(ConfigError, match="expected a pipeline and a version"):
        Challenger(start=start)


def test_a_home_without_a_donor_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected home= beside the name of a donor"):
        Challenger(start="champion", home=tmp_path)


def test_a_recipe_is_told_as_it_was_written() -> None:
    recipe = Challenger(start="first@champion")
    assert recipe.name == "Expanding, from first@champion"
    assert "start='first@champion'" in repr(recipe)


@pytest.mark.parametrize("beside", [Challenger(), Challenger(start="champion")])
def test_without_a_donor_the_other_recipe_makes_the_first_champion(
    beside: Challenger, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    loop = second(home, challengers=[Challenger(start="first@champion"), beside])
    begun = list(loop.state.versions.values())
    assert [one.state for one in begun][:2] == ["failed", "champion"]
    assert (begun[1].challenger, begun[1].start) == (beside.name, "scratch")


def test_a_donor_that_appears_later_is_tried_when_its_recipe_is_due(tmp_path: Path) -> None:
    home, late = tmp_path / "home", Challenger(start="first@champion")
    loop = lived("second", home, stream(30, 60, seed=7), challengers=[late, Challenger()], gate=[])
    assert loop.state.champion is not None
    lived("first", home)
    play(loop, 24)
    states = [v.state for v in loop.state.versions.values() if v.challenger == late.name]
    assert states[0] == "failed"
    assert states[-1] != "failed"


def test_a_donor_of_other_classes_is_no_reason_to_have_no_champion(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lived("first", home)
    other = stream(6, 60, seed=7).with_columns(
        label=pl.col("label").replace_strict({0: "no", 1: "yes"})
    )
    recipes = [Challenger(start="first@champion"), Challenger()]
    loop = lived("second", home, other, challengers=recipes)
    champion = loop.state.versions[loop.state.champion or ""]
    assert champion.challenger == recipes[1].name
    refused = next(one for one in loop.state.versions.values() if one.state == "failed")
    assert "expected the classes the donor knows, got the new class" in refused.message
