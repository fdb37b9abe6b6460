"""Networks that start from the champion: what is carried over, held near, taught and replayed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from keepfit import Challenger, Ledger, executors, gates, learners, selection, triggers
from keepfit.errors import TrainingError
from keepfit.facts import Promoted, Scored, TrainingFailed, TrainingStarted
from keepfit.protocols import Task
from keepfit.testing.learners import rows_to_learn
from tests import nets, worlds

torch = pytest.importorskip("torch")

from keepfit.learners.torch import Torch, TorchModel  # noqa: E402
from tests.nets import accuracy, weights  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with nets.one_thread():
        yield


def network(inputs: int, classes: int) -> Any:
    """Return a layer below a head."""
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 32), torch.nn.ReLU(), torch.nn.Linear(32, classes)
    )


def learner(made: Any = network, **how: Any) -> Torch:
    return Torch(made, **{"lr": 0.01, "epochs": 5, "batch_size": 64, **how})


def fit(
    made: Torch, rows: pl.DataFrame, previous: Any = None, *, seed: int = 3, **how: Any
) -> TorchModel:
    start = "scratch" if previous is None else "champion"
    return made.fit(
        rows, **{"start": start, "update": "all", "previous": previous, "seed": seed, **how}
    )


def away(one: TorchModel, other: TorchModel) -> float:
    """Return how far the weights of two models are from each other."""
    left, right = weights(one), weights(other)
    return float(np.sqrt(sum(((left[name] - right[name]) ** 2).sum() for name in left)))


def still(**how: Any) -> Torch:
    """Return a learner whose weights stay where they start."""
    return learner(how.pop("made", network), lr=0.0, weight_decay=0.0, epochs=1, **how)


def later(task: str = "binary", seed: int = 1, **how: Any) -> pl.DataFrame:
    return rows_to_learn(task, seed=seed, **how)


# Starting from the champion ---------------------------------------------------------------


def test_the_champions_weights_are_taken_over_whole() -> None:
    champion = fit(learner(), rows_to_learn("multiclass"))
    model = fit(still(), later("multiclass"), champion)
    assert away(model, champion) == 0.0
    assert model.transfer.share == 1.0
    assert model.transfer.new == model.transfer.left == ()
    assert set(model.transfer.copied) == set(weights(champion))
    assert str(model.transfer) == "from champion: 100% of the weights taken over"


def test_a_head_alone_learns_when_only_it_may() -> None:
    champion = fit(learner(), rows_to_learn("binary"))
    before = weights(champion)
    model = fit(learner(), later(), champion, update="head")
    after = weights(model)
    assert [name for name in before if (before[name] != after[name]).any()] == [
        "2.weight",
        "2.bias",
    ]
    wider = fit(learner(head="[02]"), later(), champion, update="head")
    assert (weights(wider)["0.weight"] != before["0.weight"]).any()


def test_there_must_be_a_champion_that_is_a_network() -> None:
    with pytest.raises(TrainingError, match="to start from, got none"):
        fit(learner(), later(), None, start="champion")
    other = learners.Sklearn(LogisticRegression())
    before = other.fit(later(), start="scratch", update="all", previous=None, seed=0)
    with pytest.raises(TrainingError, match="can go on with, got <EstimatorModel"):
        fit(learner(), later(), before)


def classes_of(*kept: str) -> pl.DataFrame:
    return rows_to_learn("multiclass", height=600).filter(pl.col("_label").is_in(kept))


def test_a_new_class_gets_a_place_of_its_own_and_the_others_keep_theirs() -> None:
    rows = later("multiclass").with_columns(
        pl.when(pl.col("other") > 4.0).then(pl.lit("extra")).otherwise("_label").alias("_label")
    )
    champion = fit(learner(), rows_to_learn("multiclass"))
    model = fit(still(), rows, champion)
    assert model.classes == ("extra", "high", "low", "mid")
    assert model.transfer.new_classes == ("extra",)
    assert model.transfer.partly == ("2.weight", "2.bias")
    assert model.transfer.copied == ("0.weight", "0.bias")
    np.testing.assert_array_equal(weights(model)["2.weight"][1:], weights(champion)["2.weight"])
    assert "in part 2.weight, 2.bias; new classes extra" in str(model.transfer)
    assert accuracy(fit(learner(epochs=15), rows, champion), rows) > 0.8


def test_a_third_class_keeps_the_weights_of_the_two_before_it() -> None:
    champion = fit(learner(), classes_of("low", "mid"))
    model = fit(still(), later("multiclass"), champion)
    assert model.classes == ("high", "low", "mid")
    np.testing.assert_array_equal(weights(model)["2.bias"][1:], weights(champion)["2.bias"])
    alone = fit(learner(None), classes_of("low", "mid"))
    assert "head.weight" in fit(learner(None), later("multiclass"), alone).transfer.new


def test_a_new_class_is_refused_where_the_head_alone_may_learn() -> None:
    champion = fit(learner(), classes_of("low", "mid"))
    with pytest.raises(TrainingError, match="got the new class 'high'"):
        fit(learner(), later("multiclass"), champion, update="head")


def test_classes_that_no_row_has_any_more_are_kept() -> None:
    champion = fit(learner(), rows_to_learn("multiclass"))
    model = fit(learner(), classes_of("low", "mid"), champion)
    assert model.classes == champion.classes


def test_other_classes_altogether_get_a_new_head_on_the_same_body() -> None:
    champion = fit(learner(), rows_to_learn("multiclass"))
    model = fit(still(), later(), champion, update="head")
    assert model.classes == (0, 1)
    assert model.transfer.copied == ("0.weight", "0.bias")
    assert model.transfer.new == model.transfer.left == ("2.weight", "2.bias")
    assert model.transfer.left_classes == ("high", "low", "mid")
    np.testing.assert_array_equal(weights(model)["0.weight"], weights(champion)["0.weight"])
    values = fit(still(loss="mse"), later("regression"), champion)
    assert values.transfer.new == ("2.weight", "2.bias")


def test_a_champion_of_which_nothing_fits_is_refused() -> None:
    champion = fit(learner(None), rows_to_learn("binary"))
    with pytest.raises(TrainingError, match=r"of Torch\(lr=0\.01.*\), of which none does"):
        fit(learner(), later(), champion)


def test_what_does_not_learn_must_come_from_the_champion() -> None:
    champion = fit(learner(), rows_to_learn("binary"))
    wider = later().drop("count").with_columns(pl.lit(1.0).alias("fresh"))
    for how in ({"update": "head"}, {}):
        made = learner(freeze=() if how else "0")
        with pytest.raises(TrainingError, match=r"got fresh ones in `0\.weight`"):
            fit(made, wider, champion, **how)


def test_values_keep_the_champions_scale() -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label") * 100)
    champion = fit(learner(epochs=10), rows)
    moved = later("regression").with_columns(pl.col("_label") * 50)
    model = fit(still(), moved, champion)
    np.testing.assert_allclose(model.predict(rows), champion.predict(rows))


@pytest.mark.parametrize(
    ("start", "update", "distil", "times", "plus"),
    [
        ("transfer", "all", 0.0, 3_000, 20_000),
        ("champion", "head", 0.0, 3_000, 20_000),
        ("champion", "all", 0.5, 3_000, 20_000),
        ("transfer", "all", 0.5, 0.001, 0),
    ],
)
def test_values_in_another_unit_are_answered_in_it(
    start: str, update: str, distil: float, times: float, plus: float
) -> None:
    champion = fit(learner(epochs=15), rows_to_learn("regression"))
    rows = later("regression").with_columns(pl.col("_label") * times + plus)
    made = learner(distil=distil)
    model = fit(made, rows, champion, start=start, update=update)
    error = np.abs(model.predict(rows) - rows["_label"].to_numpy()).mean()
    assert error < 0.4 * float(rows["_label"].std())  # type: ignore[arg-type]
    assert "; labels on a scale of their own" in str(model.transfer)
    assert "on a scale of their own: the labels" in model.inherited(champion)[0]
    assert fit(made, rows, model).held.problem == model.held.problem


def test_a_few_values_far_off_do_not_change_the_champions_scale() -> None:
    champion = fit(learner(), rows_to_learn("regression"))
    for far, among in ((1, 1), (2, 10), (20, 400), (3, 3)):
        row = pl.int_range(pl.len())
        label = pl.when(row < far).then(1_000.0 + row).otherwise("_label")
        rows = later("regression").head(among).with_columns(_label=label)
        model = fit(still(), rows, champion)
        assert model.transfer.rescaled is (far == 3)
        assert (model.held.problem == champion.held.problem) is (far != 3)
    alike = later("regression").head(9).with_columns(_label=pl.lit(1_000.0))
    moved = fit(still(), alike, champion).held.problem
    assert (moved.shift, moved.width) == (1_000.0, champion.held.problem.width)


@pytest.mark.parametrize("made", [None, network], ids=["own", "tensor"])
def test_shared_columns_keep_their_weights_when_others_come_and_go(made: Any) -> None:
    champion = fit(learner(made), rows_to_learn("binary"))
    new = pl.Series("aaa", np.random.default_rng(0).normal(size=400))
    rows = later().drop("count").with_columns(new)
    rows = rows.select(sorted(rows.columns, reverse=True))
    model = fit(still(made=made), rows, champion)
    assert model.transfer.new_columns == ("aaa",)
    assert model.transfer.left_columns == ("count",)
    first = "body.0.weight" if made is None else "0.weight"
    assert first in model.transfer.partly

    def numbers_of(which: TorchModel, column: str) -> np.ndarray:
        places = which.held.preparation.wide
        return weights(which)[first][:, places.index((column, "value"))]

    np.testing.assert_array_equal(numbers_of(model, "value"), numbers_of(champion, "value"))
    assert model.importances()["value"] == pytest.approx(champion.importances()["value"])
    assert model.importances()["group"] == pytest.approx(champion.importances()["group"])
    if made is None:
        assert "embeddings.of_group.weight" in model.transfer.copied


def test_a_column_the_champion_does_not_know_waits_for_the_next_scratch_training() -> None:
    champion = fit(learner(), rows_to_learn("binary"))
    rows = later().with_columns(pl.lit(1.0).alias("fresh"))
    assert fit(learner(), rows, champion).features == champion.features
    assert "fresh" in fit(learner(), rows).features


def test_a_category_keeps_its_code_and_a_new_one_is_missing() -> None:
    champion = fit(learner(None), rows_to_learn("binary"))
    rows = later().with_columns(pl.col("group").replace("south", "abroad"))
    model = fit(learner(None), rows, champion)
    found = model.table(
        pl.DataFrame({**rows.head(3).drop("group").to_dict(), "group": ["north", "abroad", None]})
    )
    places = [one.name for one in model.held.preparation.categories]
    assert found.codes[:, places.index("group")].tolist() == [1, 0, 0]


# Staying near the champion ----------------------------------------------------------------


def test_weights_that_are_pulled_back_stay_nearer_to_where_they_started() -> None:
    champion = fit(learner(), rows_to_learn("binary"))
    turned = later().with_columns(1 - pl.col("_label"))
    distances = [
        away(fit(learner(l2sp=pull), turned, champion), champion) for pull in (0.0, 0.1, 10.0)
    ]
    assert distances[0] > 1.5 * distances[1] > 3.0 * distances[2]


def test_weights_that_are_new_are_not_pulled_anywhere() -> None:
    champion = fit(learner(), rows_to_learn("multiclass"))
    free = fit(learner(weight_decay=0.0), later(), champion)
    held = fit(learner(weight_decay=0.0, l2sp=1e4), later(), champion)
    body, head = "0.weight", "2.weight"
    assert np.abs(weights(held)[body] - weights(champion)[body]).max() < 0.05
    start = fit(still(), later(), champion)
    moved = [np.abs(weights(one)[head] - weights(start)[head]).max() for one in (free, held)]
    assert moved[1] > 0.3 * moved[0]


def test_a_pretrained_body_is_pulled_back_to_its_own_weights() -> None:
    made = learner(l2sp=1e4, weight_decay=0.0)
    start = fit(still(), later(), start="pretrained")
    model = fit(made, later(), start="pretrained")
    moved = {name: np.abs(one - weights(start)[name]).max() for name, one in weights(model).items()}
    assert moved["0.weight"] < 0.05 < moved["2.weight"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_distilled_network_answers_more_like_the_champion(task: str) -> None:
    champion = fit(learner(epochs=15), rows_to_learn(task))
    random = np.random.default_rng(0)
    rows = later(task)
    shuffled = rows.with_columns(rows["_label"].gather(random.permutation(rows.height)))
    apart = []
    for share in (0.0, 0.9):
        model = fit(learner(distil=share, epochs=10), shuffled, champion)
        apart.append(float(np.abs(model.predict(rows) - champion.predict(rows)).mean()))
    assert apart[1] < 0.5 * apart[0]


def test_a_champion_teaches_the_classes_that_it_knows() -> None:
    champion = fit(learner(epochs=15), classes_of("low", "mid"))
    model = fit(learner(distil=0.5), later("multiclass"), champion)
    assert model.classes == ("high", "low", "mid")
    assert accuracy(model, later("multiclass", seed=2)) > 0.6


@pytest.mark.parametrize("start", ["champion", "transfer"])
def test_a_champion_teaches_rows_without_some_of_its_columns_as_if_they_were_missing(
    start: str,
) -> None:
    rows = rows_to_learn("binary")
    sizes = pl.lit([0.5, 1.5, 2.5]).alias("sizes")
    champion = fit(learner(epochs=15), rows.with_columns(sizes))
    shuffled = later().with_columns(1 - pl.col("_label")).drop("count")
    apart = []
    for share in (0.0, 0.9):
        model = fit(learner(distil=share, epochs=10), shuffled, champion, start=start)
        assert model.transfer.left_columns == ("count", "sizes")
        apart.append(abs(accuracy(model, shuffled) - accuracy(champion, whole(shuffled))))
    assert apart[1] < 0.5 * apart[0]
    if start == "transfer":
        shorter = later().with_columns(pl.lit([0.5, 1.5]).alias("sizes"))
        assert fit(learner(distil=0.5), shorter, champion, start=start).features


def whole(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the columns that they have lost, of which no value is known."""
    return rows.with_columns(pl.lit(None).alias(name) for name in ("count", "sizes"))


def test_replay_mixes_rows_that_the_champion_has_seen_into_each_epoch() -> None:
    seen: list[list[float]] = []

    class Watching(torch.nn.Sequential):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            if self.training:
                seen[-1].extend(x[:, 0].tolist())
            return super().forward(x)

    def watching(inputs: int, classes: int) -> Any:
        seen.append([])
        return Watching(torch.nn.Linear(inputs, classes))

    old = rows_to_learn("binary", mixed=False)
    new = later(mixed=False, height=60)
    champion = fit(learner(watching), old)
    both = pl.concat([old, new])
    fit(learner(watching, replay=0.25, epochs=1), both, champion)
    assert len(seen[-1]) == 60 + 20
    fresh = {round(x, 4) for x in champion.table(new).numbers[:, 0].tolist()}
    assert sum(round(x, 4) in fresh for x in seen[-1]) == 60
    fit(learner(watching, replay=0.25, epochs=1), new, champion)
    assert len(seen[-1]) == 60
    fit(learner(watching, epochs=1), both, champion)
    assert len(seen[-1]) == both.height


# What it is good for ----------------------------------------------------------------------


def digits(turned: float, background: float = 0.0) -> pl.DataFrame:
    """Return images of digits in an order of chance, turned by degrees, on a lighter ground."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(labels))
    images = pixels[order].reshape(-1, 8, 8) / 16.0
    images = rotate(images, turned, axes=(1, 2), reshape=False, order=1)
    noise = np.random.default_rng(8).normal(scale=background / 2, size=images.shape)
    images = np.clip(images * (1.0 - 2.0 * background) + background + noise, 0.0, 1.0)
    return pl.DataFrame({"pixels": images.reshape(-1, 64).tolist(), "_label": labels[order]})


def seen_from(minute: int, rows: pl.DataFrame) -> pl.DataFrame:
    start = worlds.START + timedelta(minutes=minute)
    times = [start + timedelta(minutes=i) for i in range(rows.height)]
    return rows.with_columns(pl.Series("_time", times))


def reader(inputs: int, classes: int) -> Any:
    """Return a small network of convolutions."""
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, padding=1, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 16, classes),
    )


@pytest.mark.parametrize(("turned", "background"), [(10.0, 0.0), (0.0, 0.2)])
def test_a_start_from_the_champion_needs_a_third_of_the_new_rows(
    turned: float, background: float
) -> None:
    before = seen_from(0, digits(0.0).head(900))
    after = seen_from(1_000, digits(turned, background))
    judged = after.tail(800)
    warm, scratch = [], []
    for seed in range(3):
        how = {"lr": 3e-3, "batch_size": 32}
        champion = fit(learner(reader, epochs=15, **how), before, seed=seed)
        # Both learn from what is new alike often; the champion's rows come along.
        replayed = pl.concat([before, after.head(20)])
        going_on = learner(reader, epochs=30, replay=0.5, **how)
        warm.append(accuracy(fit(going_on, replayed, champion, seed=seed), judged))
        anew = learner(reader, epochs=30, **how)
        scratch.append(accuracy(fit(anew, after.head(60), seed=seed), judged))
    assert np.mean(warm) > np.mean(scratch) + 0.03, (warm, scratch)


# In a pipeline ----------------------------------------------------------------------------


def test_a_pipeline_goes_on_from_its_champion(tmp_path: Path) -> None:
    made = learner(lr=0.02, epochs=3)
    pipeline = worlds.pipeline(
        worlds.stream(days=36, per_day=60, flip_at=15),
        tmp_path,
        learner=made,
        trigger=triggers.Every("7d"),
        challengers=[Challenger(select=selection.Sliding("10d"), start="champion")],
        gate=gates.NoWorse(within=0.05),
    )
    pipeline.backtest()
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        facts = [entry.fact for entry in ledger.facts("churn")]
    started = [fact.start for fact in facts if isinstance(fact, TrainingStarted)]
    assert started[0] == "scratch"
    assert set(started[1:]) == {"champion"}
    assert not [fact for fact in facts if isinstance(fact, TrainingFailed)]
    assert len([fact for fact in facts if isinstance(fact, Promoted)]) >= 3
    scored = [fact for fact in facts if isinstance(fact, Scored)]
    assert scored[-1].value > 0.8  # the meaning of the label was turned around half-way


def test_a_network_trains_in_the_worker_and_comes_back() -> None:
    rows = rows_to_learn("binary")
    worker = executors.Local()
    try:
        first = worker.run(Task(learner=learner(), rows=rows, seed=3))
        assert first.model is not None, first.message
        second = worker.run(
            Task(learner=learner(), rows=later(), start="champion", previous=first.model, seed=3)
        )
    finally:
        worker.close()
    assert second.model is not None, second.message
    assert first.model == fit(learner(), rows).dumps()
    assert first.packages["torch"] == str(torch.__version__)
    assert learners.loads(second.model).transfer.share == 1.0


@pytest.mark.parametrize(
    ("made", "how", "opens"),
    [
        (None, {}, True),
        (network, {}, True),
        (lambda width, many: network(width, many), {}, True),
        (lambda outputs=1: network(6, outputs), {}, True),
        (lambda width: network(width, 2), {}, False),
        (lambda: network(6, 2), {}, False),
        (network(6, 2), {}, False),
        (network, {"loss": "bce"}, False),
        (network, {"loss": torch.nn.CrossEntropyLoss()}, False),
        (network, {"train": lambda net, batch: net}, False),
    ],
)
def test_a_network_gets_outputs_for_new_classes_where_it_is_told_how_many_there_are(
    made: Any, how: dict[str, Any], opens: bool
) -> None:
    assert learners.opens(Torch(made, **how), "all") is opens
    assert not learners.opens(Torch(made, **how), "head")
