"""Probes: what they draw, how sure they are, and which losses they count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from keepfit import Challenger, learners, metrics, triggers
from keepfit.errors import ConfigError
from keepfit.metrics import MAE, Accuracy, LogLoss, RocAuc
from keepfit.probes.losses import loss
from keepfit.probes.trial import Measured, Trial, constant, drawn, error_of
from keepfit.selection import Expanding, SinceChange, Sliding
from tests.worlds import DAY, live, pipeline, play, stream


def labelled(days: int = 40, **how: Any) -> pl.DataFrame:
    return stream(days, **how).rename({"id": "_id", "time": "_time", "label": "_label"})


def model_of(rows: pl.DataFrame, estimator: Any = None) -> Any:
    learner = learners.resolve(LogisticRegression() if estimator is None else estimator)
    return learner.fit(rows, start="scratch", update="all", previous=None, seed=0)


def measured(
    rows: pl.DataFrame, stale: pl.DataFrame, fresh: pl.DataFrame, judged: pl.DataFrame, **more: Any
) -> Measured:
    model = more.pop("model", None) or model_of(rows)
    trial = Trial(model, more.pop("losses", Accuracy().losses), judged, 0)
    found = trial.best(stale, {"fresh": fresh})
    assert found is not None
    return found


def test_fresh_rows_show_what_they_would_gain_once_the_labels_turned() -> None:
    rows = labelled(flip_at=20)
    found = measured(rows, rows[:2000], rows[2000:3000], rows[3000:])
    assert found.gap > 0.3
    assert found.gap > 5 * found.error
    assert found.stale - found.fresh == pytest.approx(found.gap)
    assert (found.recipe, found.rows, found.scale) == ("fresh", 1000, 1.0)


def test_on_a_stream_that_stays_the_gap_is_no_larger_than_its_error_tells() -> None:
    rows = labelled(60)
    gaps = []
    for first in range(0, 3000, 500):
        stale, fresh = rows[first : first + 1500], rows[first + 500 : first + 2000]
        found = measured(rows, stale, fresh, rows[first + 2000 : first + 3000])
        gaps.append(found.gap / found.error)
    # Rows that both share are drawn for both, so what differs is little.
    assert max(map(abs, gaps)) < 4
    assert abs(float(np.mean(gaps))) < 1.5


def test_the_same_rows_gain_nothing_at_all() -> None:
    rows = labelled(60)
    found = measured(rows, rows[:5000], rows[:5000], rows[5000:])
    assert found.gap == 0.0
    assert found.error == 1 / found.rows


def test_of_several_choices_the_surest_gain_counts() -> None:
    rows = labelled(flip_at=20)
    trial = Trial(model_of(rows), Accuracy().losses, rows[3000:], 0)
    found = trial.best(rows[:2000], {"all": rows[:3000], "newest": rows[2000:3000]})
    assert found is not None
    assert found.recipe == "newest"


def test_several_classes_and_numbers_are_probed_too() -> None:
    rows = labelled(flip_at=20)
    kinds = rows.with_columns(_label=pl.col("_label").replace_strict({0: "no", 1: "yes"}))
    third = kinds.with_columns(
        _label=pl.when(pl.col("y") > 1).then(pl.lit("y")).otherwise("_label")
    )
    forest = RandomForestClassifier(5, random_state=0)
    several = measured(
        third, third[:2000], third[2000:3000], third[3000:],
        model=model_of(third, forest), losses=LogLoss().losses,
    )  # fmt: skip
    assert several.gap > 0.3
    assert 0.5 < several.scale < 1.2
    sign = pl.when(pl.int_range(pl.len()) < 2000).then(1.0).otherwise(-1.0)
    values = rows.with_columns(_label=sign * 10 * pl.col("x"))
    numbers = measured(
        values, values[:2000], values[2000:3000], values[3000:],
        model=model_of(values.drop("kind"), LinearRegression()), losses=MAE().losses,
    )  # fmt: skip
    assert numbers.gap > 10
    assert numbers.scale == pytest.approx(10 * np.abs(rows["x"][3000:]).mean(), rel=0.05)


def test_rows_without_a_label_the_champion_knows_are_left_out() -> None:
    rows = labelled(flip_at=20)
    odd = rows.with_columns(_label=pl.when(pl.col("y") > 1.5).then(7).otherwise("_label"))
    found = measured(rows, odd[:2000], odd[2000:3000], odd[3000:])
    assert found.rows == int((rows["y"][3000:] <= 1.5).sum())
    too_few = Trial(model_of(rows), Accuracy().losses, rows[3000:], 0)
    assert too_few.best(rows[:5], {"fresh": rows[2000:3000]}) is None


@pytest.mark.parametrize(
    ("stale", "fresh"), [(100, 300), (4_500, 45_000), (45_000, 4_500), (9_000, 9_000), (1, 10**6)]
)
def test_more_rows_are_worth_as_much_between_probes_as_between_models(
    stale: int, fresh: int
) -> None:
    few, many = drawn(stale, fresh)
    assert 0 < few <= min(stale, 2_000)
    assert 0 < many <= min(fresh, 2_000)
    worth, meant = few**-0.5 - many**-0.5, stale**-0.5 - fresh**-0.5
    assert worth == pytest.approx(meant, abs=2e-4) or min(stale, fresh) == 1


def test_the_error_grows_where_rows_next_to_each_other_are_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alone = rng.normal(size=1000)
    alike = np.repeat(rng.normal(size=20), 50)
    assert error_of(alone) == pytest.approx(1000**-0.5, rel=0.6)
    assert error_of(alike) > 3 * alike.std() / 1000**0.5


def test_a_constant_answer_is_the_shares_of_classes_or_the_median() -> None:
    assert constant(np.array([0, 1, 1, 1]), 2).tolist() == [0.75] * 4
    assert constant(np.array([0, 1, 2, 2]), 3)[0].tolist() == [0.25, 0.25, 0.5]
    assert constant(np.array([1.0, 5.0, 100.0]), 0).tolist() == [5.0] * 3


# Losses ---------------------------------------------------------------------------------


def test_a_ranking_metric_needs_a_cost_and_says_so() -> None:
    model = model_of(labelled(10))
    with pytest.raises(ConfigError, match="a loss for each row, got 'roc_auc'") as raised:
        loss(RocAuc(), None, model)
    assert "cost=" in str(raised.value)
    assert loss(RocAuc(), "log_loss", model)[0] == "log_loss"
    with pytest.raises(ConfigError, match="got 'f1'"):
        loss(RocAuc(), "f1", model)


def test_a_cost_of_the_users_own_is_held_to_one_number_per_row() -> None:
    def dear(labels: Any, scores: Any) -> Any:
        return np.where(labels == 1, 10 * (scores < 0.5), scores >= 0.5)

    name, losses = loss(RocAuc(), dear, model_of(labelled(10)))
    assert name == "dear"
    assert losses(np.array([0, 1]), np.array([0.6, 0.4])).tolist() == [1.0, 10.0]
    _, wrong = loss(RocAuc(), lambda labels, scores: 1.0, model_of(labelled(10)))
    with pytest.raises(ConfigError, match="one number per row"):
        wrong(np.array([0, 1]), np.array([0.6, 0.4]))


@pytest.mark.parametrize("metric", ["roc_auc", "f1", metrics.Function(lambda a, b: 1.0)], ids=str)
def test_a_pipeline_that_cannot_weigh_is_refused_before_it_reads(
    metric: Any, tmp_path: Any
) -> None:
    with pytest.raises(ConfigError, match="a loss for each row"):
        pipeline(stream(5), tmp_path, metric=metric, trigger=triggers.Pays())


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "mae", metrics.Pinball(0.9)], ids=str)
def test_a_pipeline_with_a_loss_for_each_row_can_weigh(metric: Any, tmp_path: Any) -> None:
    made = pipeline(stream(5), tmp_path, metric=metric, trigger=triggers.Pays())
    assert triggers.probing(made.trigger) == (triggers.Pays(),)
    pipeline(stream(5), tmp_path, metric="roc_auc", trigger=triggers.Pays(cost="brier"))


def test_two_costs_in_one_trigger_are_refused(tmp_path: Any) -> None:
    both = triggers.Pays(cost="brier") | triggers.Pays(cost="log_loss")
    with pytest.raises(ConfigError, match="one cost in a trigger"):
        pipeline(stream(5), tmp_path, trigger=both)


def test_a_probe_sees_the_rows_that_a_training_would_and_forecasts_each_training_once(
    tmp_path: Path,
) -> None:
    windows = [
        Challenger(select=one) for one in (Sliding(4), Sliding(40), SinceChange(), Expanding())
    ]
    loop = live(pipeline(stream(60), tmp_path, every="5d", challengers=windows, gate=[]))
    play(loop, 11, 5 * DAY)
    now, champion = loop.clock.now(), loop.state.versions[loop.state.champion or ""]
    chosen = loop.prober._chosen(loop.labelled(now), champion, now)
    assert {one.name: rows.height for one, rows in chosen} == {
        one.challenger.name: one.rows.height for one in loop.turns.plan(now).chosen
    }
    assert len({rows.height for _, rows in chosen}) == 2
    once = [one for one in chosen if one[0] in windows[:2]]
    assert loop.prober._seconds(chosen) == loop.prober._seconds(once)
