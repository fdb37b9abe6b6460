"""Labels that nobody has learnt: too few to be a class, or a new class that grows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sklearn.linear_model import LogisticRegression

from keepfit import checks, facts, learners
from keepfit.batch import Batch, Roles
from keepfit.facts import Cost, Finding, Outcome
from keepfit.learners.novel import ENOUGH, counted, learnable, named, strangers, without
from keepfit.protocols import CheckContext, Model
from keepfit.results import Status
from keepfit.results.sentences import Story
from tests.lives import Life

START = datetime(2024, 1, 1, tzinfo=UTC)


def labelled(labels: list[Any] | pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"_id": range(len(labels)), "_label": labels})


def known(rows: pl.DataFrame) -> set[Any]:
    return set(rows.get_column("_label").drop_nulls().to_list())


# The rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [7, 7.0, 0.5, -1], ids=str)
def test_one_wrong_label_is_left_out(wrong: float) -> None:
    plain = [0, 1] * 200 if isinstance(wrong, int) else [0.0, 1.0] * 200
    found = learnable(labelled([*plain, wrong, *plain]), (0, 1))
    assert known(found.rows) == {0, 1}
    assert sum(found.unlearnt.values()) == 1
    assert found.rows.height == 800


@given(
    st.lists(st.none() | st.integers(-2, 6), min_size=1),
    st.lists(st.integers(-1, 5), min_size=2, unique=True).map(sorted),
    st.sampled_from([pl.Int64, pl.Int8, pl.Float64]),
)
def test_labels_are_strange_where_no_class_is_theirs(
    labels: list[int | None], classes: list[int], dtype: Any
) -> None:
    found = strangers(pl.Series(labels, dtype=dtype), classes)
    told = [False] * len(labels) if found is None else found.to_list()
    assert told == [one is not None and one not in classes for one in labels]


def test_texts_and_truth_values_are_classes_too() -> None:
    texts = learnable(labelled(["no", "yes"] * 50 + ["maybe"]), ("no", "yes"))
    assert texts.unlearnt == {"maybe": 1}
    assert learnable(labelled([True, False] * 50), (False, True)).unlearnt == {}
    assert learnable(labelled([True, False] * 50), (0, 1)).unlearnt == {}


def test_a_new_class_is_learnt_once_there_is_enough_of_it() -> None:
    few = learnable(labelled([0, 1] * 200 + [2] * (ENOUGH - 1)), (0, 1))
    enough = learnable(labelled([0, 1] * 200 + [2] * ENOUGH), (0, 1))
    assert few.unlearnt == {"2": ENOUGH - 1}
    assert enough.unlearnt == {}
    assert enough.rows.height == 400 + ENOUGH


def test_wrong_labels_that_add_up_over_years_make_no_class() -> None:
    year = [0, 1] * 1_000 + [7]
    found = learnable(labelled(year * 40), (0, 1))
    assert found.unlearnt == {"7": 40}


def test_a_burst_of_wrong_labels_is_no_class_for_long() -> None:
    burst = [0, 1] * 50 + [7] * 30
    assert learnable(labelled(burst), (0, 1)).unlearnt == {}
    assert learnable(labelled(burst + [0, 1] * 2_000), (0, 1)).unlearnt == {"7": 30}


def test_a_class_as_rare_as_one_that_is_known_is_learnt() -> None:
    rare = ([0] * 999 + [1]) * 30
    grown = ([0] * 998 + [1, 2]) * 30
    assert learnable(labelled(rare + grown), (0, 1)).unlearnt == {}


def test_a_model_that_goes_on_has_no_place_for_a_new_class() -> None:
    rows = labelled([0, 1] * 50 + [2] * 100)
    assert learnable(rows, (0, 1), closed=True).unlearnt == {"2": 100}
    assert learnable(rows, (0, 1)).unlearnt == {}


def test_without_a_champion_the_frequent_labels_are_classes() -> None:
    assert learnable(labelled([0, 1] * 500 + [7]), ()).unlearnt == {"7": 1}
    assert learnable(labelled([0] * 999 + [1]), ()).unlearnt == {}
    several = list(range(50)) * 3
    assert learnable(labelled(several), ()).unlearnt == {}


def test_values_of_a_regression_are_no_classes() -> None:
    rows = labelled([1, 1, 2, 900])
    assert learnable(rows, (), every=False).rows is rows


def test_missing_and_infinite_labels_are_no_class_and_not_counted() -> None:
    rows = labelled(pl.Series([0.0, 1.0, None, float("nan"), float("inf"), 7.0]))
    assert counted(rows.get_column("_label"), (0, 1)) == {"7": 1}


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=300),
    st.sets(st.integers(0, 4), min_size=2, max_size=4),
)
def test_nothing_but_labels_that_are_unknown_is_left_out(
    labels: list[int], classes: set[int]
) -> None:
    rows, names = labelled(labels), tuple(sorted(classes))
    found = learnable(rows, names)
    assert found.rows.height + sum(found.unlearnt.values()) == rows.height
    assert not {str(one) for one in classes} & set(found.unlearnt)
    # The names that are kept with a training leave out the same rows again.
    assert without(rows, found.unlearnt).equals(found.rows)
    assert without(rows.cast({"_label": pl.Float64}), found.unlearnt).height == found.rows.height


def test_a_label_has_one_name_as_integer_and_as_float() -> None:
    assert named(pl.Series([7, None])).to_list() == ["7", None]
    assert named(pl.Series([7.0, 0.5, None])).to_list() == ["7", "0.5", None]


@pytest.mark.parametrize("learner", ["sklearn"])
def test_a_learner_says_whether_it_learns_classes(learner: str) -> None:
    assert learners.resolve(LogisticRegression()).classifies  # type: ignore[attr-defined]


# The check --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def champion() -> Model:
    rows = pl.DataFrame({"x": [0.0, 1.0] * 50, "_label": [0, 1] * 50})
    return learners.resolve(LogisticRegression()).fit(
        rows, start="scratch", update="all", previous=None, seed=0
    )


def asked(labels: list[Any], champion: Model | None, severity: str = "warn") -> Finding:
    times = [START + timedelta(hours=i) for i in range(10)]
    rows = pl.DataFrame({"_id": range(10), "_time": times, "x": [0.0] * 10})
    come = pl.DataFrame({"_id": range(len(labels)), "_label": labels})
    context = CheckContext(
        now=START, roles=Roles(time="time", id="id", label="late"), number=3, champion=champion
    )
    batch = Batch(rows=rows, labels=come, cursor="")
    (found,) = checks.Classes(severity=severity).check(batch, context)
    return found


def test_a_label_that_no_class_has_is_found_with_its_id(champion: Model) -> None:
    found = asked([0, 1, 0, 7], champion)
    assert found.outcome == Outcome.WARN
    assert found.message == ("`7` is none of the champion's 2 classes: 1 of 4 labels (25 %; id 3)")
    assert found.column == "late"
    assert asked([0, 7], champion, "block").outcome == Outcome.BLOCK


def test_labels_of_known_classes_pass(champion: Model) -> None:
    found = asked([0, 1, 1, None], champion)
    assert (found.outcome, found.message) == (
        Outcome.PASS,
        "3 labels of the 2 classes the champion knows",
    )


def test_without_champion_or_labels_there_is_nothing_to_find(champion: Model) -> None:
    assert asked([0, 7], None).outcome == Outcome.NOT_APPLICABLE
    assert asked([], champion).outcome == Outcome.NOT_APPLICABLE


# What people read -------------------------------------------------------------------------


def failed(life: Life, day: int, version: str) -> None:
    at = f"2024-03-{day:02d}"
    life.arrived(at).checked(at).started(at, version)
    life.add(
        at,
        facts.TrainingFailed(
            version=version,
            reason="raised",
            message='no memory\n\n  File "a.py", line 3, in fit\n    grow()',
            cost=Cost(),
        ),
    )


def test_status_tells_of_trainings_that_fail_in_a_row() -> None:
    life = Life()
    life.arrived("2024-02-01").checked("2024-02-01").started("2024-02-01", "v1")
    life.trained("2024-02-01", "v1").promoted("2024-02-01", "v1")
    failed(life, 1, "v2")
    assert Status.of("churn", life.state()).condition == "healthy"
    failed(life, 8, "v3")
    failed(life, 15, "v4")
    status = Status.of("churn", life.state())
    assert status.condition == "failing"
    assert "3 trainings in a row, since 2024-03-01; v4: no memory\n" in repr(status)
    assert status.to_dict()["failing"]["trainings"] == 3
    life.started("2024-03-22", "v5").trained("2024-03-22", "v5")
    assert Status.of("churn", life.state()).condition == "healthy"


def test_lines_of_scores_and_trainings_say_what_was_left_out() -> None:
    life = Life()
    life.arrived("2024-02-01").checked("2024-02-01").started("2024-02-01", "v1")
    life.scored("2024-02-01", "v1", 0.8)
    training, scored = (life.entries[-2], life.entries[-1])
    less = {"7": 1, "9": 2}
    assert isinstance(training.fact, facts.TrainingStarted)
    snapshot = replace(training.fact.snapshot, unlearnt=less)
    for entry, fact in (
        (training, replace(training.fact, snapshot=snapshot)),
        (scored, replace(scored.fact, unlearnt=less)),
    ):
        line = str(Story().line(replace(entry, fact=fact)))
        assert "; without 3 rows labelled 7 (and 1 more)" in line
        assert "without" not in str(Story().line(entry))
