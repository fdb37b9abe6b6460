"""Networks of PyTorch: rows as tensors, what learns when, losses, checkpoints, models as bytes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import executors, learners
from keepfit.errors import (
    ArtifactCorrupt,
    ConfigError,
    LabelsMissing,
    SchemaMismatch,
    TrainingError,
)
from keepfit.protocols import Task
from keepfit.testing import check_learner
from keepfit.testing.learners import rows_to_learn

torch = pytest.importorskip("torch")

from keepfit.learners.torch import Torch, TorchModel  # noqa: E402
from keepfit.learners.torch.checkpoints import Checkpoint  # noqa: E402
from keepfit.learners.torch.patterns import groups  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Small(torch.nn.Module):  # type: ignore[misc]
    """Two layers below a head."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(inputs, 16)
        self.second = torch.nn.Linear(16, 16)
        self.head = torch.nn.Linear(16, classes)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class Apart(torch.nn.Module):  # type: ignore[misc]
    """Takes numbers and codes apart."""

    def __init__(self, numbers: int, categories: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.inside = torch.nn.ModuleList(torch.nn.Embedding(size, 2) for size in categories)
        self.head = torch.nn.Linear(numbers + 2 * len(categories), outputs)

    def forward(self, numbers: Any, codes: Any) -> Any:
        found = [one(codes[:, i]) for i, one in enumerate(self.inside)]
        return self.head(torch.cat([numbers, *found], dim=1))


def fit(learner: Torch, rows: pl.DataFrame, *, seed: int = 3, **how: Any) -> TorchModel:
    defaults: dict[str, Any] = {"start": "scratch", "update": "all", "previous": None}
    return learner.fit(rows, **{**defaults, **how}, seed=seed)


def accuracy(model: Any, rows: pl.DataFrame) -> float:
    scores = model.predict(rows)
    chosen = (scores > 0.5).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    return float((chosen == model.codes(rows["_label"])).mean())


def weights(model: TorchModel) -> dict[str, np.ndarray]:
    return {name: one.numpy().copy() for name, one in model.net.state_dict().items()}


def changed(one: TorchModel, other: TorchModel) -> set[str]:
    """Return the modules whose weights differ."""
    left, right = weights(one), weights(other)
    return {name.partition(".")[0] for name in left if (left[name] != right[name]).any()}


def learner(network: Any = Small, **how: Any) -> Torch:
    return Torch(network, **{"lr": 0.01, "epochs": 4, "batch_size": 64, **how})


# What every learner promises --------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("network", [None, Small, Apart], ids=["own", "tensor", "apart"])
def test_a_network_keeps_the_contract(network: Any, task: str) -> None:
    check_learner(Torch(network, lr=0.02, epochs=6, batch_size=64), task=task)


def test_a_network_with_one_logit_learns_two_classes() -> None:
    def logit(inputs: int) -> Any:
        return torch.nn.Linear(inputs, 1)

    rows = rows_to_learn("binary")
    for loss in (None, "bce", "cross_entropy"):
        model = fit(learner(logit, loss=loss, epochs=10), rows)
        assert accuracy(model, rows_to_learn("binary", seed=1)) > 0.9


def test_a_network_of_ones_own_is_copied_and_never_trained() -> None:
    net = torch.nn.Linear(3, 2)
    before = net.weight.detach().clone()
    made = Torch(net, lr=0.01, epochs=2)
    model = fit(made, rows_to_learn("binary", mixed=False))
    assert torch.equal(net.weight, before)
    assert made.network is not net
    assert not np.array_equal(weights(model)["weight"], before.numpy())


def test_a_factory_may_take_its_arguments_in_any_way() -> None:
    def by_place(wide: int, high: int, /) -> Any:
        return torch.nn.Linear(wide, high)

    def by_name(*, inputs: int, outputs: int = 7) -> Any:
        return torch.nn.Linear(inputs, outputs)

    rows = rows_to_learn("multiclass")
    for factory in (by_place, by_name):
        assert fit(learner(factory), rows).net.out_features == 3


def test_lazy_layers_learn_their_sizes_from_the_rows() -> None:
    def lazy() -> Any:
        layers = torch.nn.LazyLinear(8), torch.nn.ReLU(), torch.nn.LazyLinear(2)
        return torch.nn.Sequential(*layers)

    rows = rows_to_learn("binary")
    made = learner(lazy, epochs=8)
    model = fit(made, rows)
    assert accuracy(model, rows) > 0.9
    assert fit(made, rows).dumps() == model.dumps()
    assert accuracy(fit(learner(lazy(), epochs=8), rows), rows) > 0.9


def test_values_are_answered_in_their_own_unit() -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label") * 1_000 + 50_000)
    model = fit(learner(epochs=12), rows)
    error = np.abs(model.predict(rows) - rows["_label"].to_numpy()).mean()
    assert error < 0.3 * float(rows["_label"].std())  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_losses_for_values_have_names(loss: str) -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label").round().cast(pl.Int64))
    model = fit(learner(loss=loss, epochs=10), rows)
    assert model.task == "regression"
    assert np.corrcoef(model.predict(rows), rows["_label"])[0, 1] > 0.8


def test_a_loss_of_ones_own_sees_outputs_and_labels() -> None:
    seen = []

    def squared(outputs: Any, labels: Any) -> Any:
        seen.append((outputs.shape, labels.dtype))
        return (outputs - labels).square()  # one per row: the mean is taken

    model = fit(learner(loss=squared), rows_to_learn("regression"))
    assert model.task == "regression"
    assert seen[0] == (torch.Size([64]), torch.float32)
    weighted = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 20.0]))
    rows = rows_to_learn("binary")
    eager, plain = fit(learner(loss=weighted), rows), fit(learner(), rows)
    assert eager.predict(rows).mean() > plain.predict(rows).mean() + 0.05


def test_the_task_is_what_is_said_or_what_the_labels_are() -> None:
    rows = rows_to_learn("binary")
    assert fit(learner(task="regression"), rows).task == "regression"
    floats = rows.with_columns(pl.col("_label").cast(pl.Float64))
    assert fit(learner(), floats).task == "regression"
    assert fit(learner(loss="cross_entropy"), floats).task == "binary"


# Rows as tensors --------------------------------------------------------------------------


def test_lists_of_numbers_pass_as_they_are() -> None:
    random = np.random.default_rng(0)
    pixels = random.normal(size=(200, 6)) * 5
    rows = pl.DataFrame({"pixels": pixels.tolist(), "_label": (pixels[:, 0] > 0).astype(int)})
    model = fit(learner(epochs=8), rows)
    assert model.features == ("pixels",)
    np.testing.assert_allclose(model.table(rows).numbers, pixels, rtol=1e-6)
    assert accuracy(model, rows) > 0.9
    fixed = rows.with_columns(pl.col("pixels").cast(pl.Array(pl.Float64, 6)))
    np.testing.assert_array_equal(model.predict(fixed), model.predict(rows))
    with pytest.raises(SchemaMismatch, match="lists of 6 numbers, got 2 numbers"):
        model.predict(rows.with_columns(pl.col("pixels").list.head(2)))
    with pytest.raises(SchemaMismatch, match="`pixels` is missing"):
        model.predict(rows.drop("pixels"))
    gone = rows.with_columns(pl.lit(None, dtype=pl.List(pl.Float64)).alias("pixels"))
    assert np.isfinite(model.predict(gone)).all()
    untyped = gone.with_columns(pl.lit(None).alias("pixels"))
    np.testing.assert_array_equal(model.predict(untyped), model.predict(gone))


def test_lists_stand_beside_numbers_and_categories() -> None:
    rows = rows_to_learn("binary")
    beside = pl.Series("embedding", np.ones((rows.height, 3)).tolist())
    model = fit(learner(None), rows.with_columns(beside))
    assert set(model.features) == {"value", "other", "count", "group", "open", "seen_at"} | {
        "embedding"
    }
    assert model.table(rows.with_columns(beside)).numbers.shape[1] == 5 + 1 + 3


def test_a_gap_is_told_apart_where_training_had_some_and_is_the_mean_elsewhere() -> None:
    rows = pl.DataFrame(
        {"a": [1.0, None, 3.0, 8.0], "b": [5.0, 6.0, 7.0, 8.0], "_label": [0, 1] * 2}
    )
    model = fit(learner(), rows)
    assert model.held.preparation.wide == [("a", "value"), ("b", "value"), ("a", "gap")]
    found = model.table(pl.DataFrame({"a": [None, 4.0], "b": [None, math.inf]})).numbers
    np.testing.assert_array_equal(found, [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def test_a_number_out_of_all_proportion_is_cut_off() -> None:
    model = fit(learner(), rows_to_learn("binary"))
    far = rows_to_learn("binary").head(2).with_columns(pl.Series("value", [1e30, -1e30]))
    assert model.table(far).numbers[:, 0].tolist() == [20.0, -20.0]


def test_constant_and_missing_columns_do_no_harm() -> None:
    rows = rows_to_learn("binary").with_columns(
        pl.lit(0.1 + 0.2).alias("same"), pl.lit(None, dtype=pl.Float64).alias("never")
    )
    model = fit(learner(), rows)
    assert model.dropped == {"never": "all values are missing"}
    assert np.isfinite(model.predict(rows)).all()
    assert np.isfinite(model.predict(rows.with_columns(pl.lit(9.0).alias("same")))).all()


def test_one_row_is_enough_to_learn_a_value_from() -> None:
    rows = rows_to_learn("regression").head(1)
    answer = fit(learner(epochs=20), rows).predict(rows)
    np.testing.assert_allclose(answer, rows["_label"].to_numpy(), atol=0.5)


def test_a_last_row_alone_does_not_stop_normalisation() -> None:
    def normed(inputs: int, classes: int) -> Any:
        layers = torch.nn.Linear(inputs, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, classes)
        return torch.nn.Sequential(*layers)

    rows = rows_to_learn("binary").head(65)
    assert np.isfinite(fit(learner(normed), rows).predict(rows)).all()


def test_nothing_to_learn_from_is_said() -> None:
    rows = rows_to_learn("binary")
    with pytest.raises(LabelsMissing):
        fit(learner(), rows.with_columns(pl.lit(None, dtype=pl.Int64).alias("_label")))
    with pytest.raises(TrainingError, match="two classes or more"):
        fit(learner(), rows.with_columns(pl.lit(1).alias("_label")))
    with pytest.raises(TrainingError, match="column to learn from"):
        fit(learner(), rows.select("_id", "_label"))


# Settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs= to be 1 or more, got 0"),
        ({"distil": 1.0}, "distil= to be a share"),
        ({"lr": {"*": -1.0}}, "lr= to be a rate"),
        ({"loss": "cross_entropie"}, "the nearest is 'cross_entropy'"),
        ({"loss": "mse", "task": "classification"}, "loss for classification, got 'mse'"),
        ({"train": print, "epochs": 3}, "train= without epochs="),
        ({"network": 3}, "a function that makes one, got 3"),
        ({"network": torch.nn.Linear(2, 2), "freeze": "weigth"}, "the nearest name is 'weight'"),
        ({"network": lambda width, depth, groups: None}, "got one that asks for 'width'"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Torch(**wrong)


def test_a_name_shows_what_differs_and_parameters_are_json() -> None:
    made = Torch(Small, lr={"head": 0.01, "*": 0.001}, freeze="first", loss="cross_entropy")
    assert made.name == (
        "Torch(Small, loss=\"cross_entropy\", lr={'head': 0.01, '*': 0.001}, freeze=\"first\")"
    )
    assert repr(made) == f"learners.{made.name}"
    assert json.loads(json.dumps(made.parameters))["freeze"] == ["first"]
    assert learners.resolve(made) is made


def test_a_fingerprint_follows_the_network_and_its_weights() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert Torch(one).fingerprint == Torch(one).fingerprint
    assert Torch(one).fingerprint != Torch(other).fingerprint
    assert Torch(Small).fingerprint != Torch(Apart).fingerprint
    assert Torch(Small).fingerprint != Torch(Small, lr=0.1).fingerprint
    assert Torch(Small).fingerprint == Torch(Small, checkpoints="here").fingerprint


FINGERPRINT = """
import torch
from keepfit.learners.torch import Torch
torch.manual_seed(4)
loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
print(Torch(torch.nn.Linear(3, 2), loss=loss).fingerprint)
"""


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


def test_what_a_network_does_not_take_is_said_with_a_way_out() -> None:
    rows = rows_to_learn("multiclass")
    with pytest.raises(TrainingError, match=r"for 9 inputs.*\n\nhint: .*inputs, classes"):
        fit(learner(lambda: torch.nn.Linear(4, 3)), rows)
    with pytest.raises(TrainingError, match=r"expected 3 outputs per row \(multiclass\), got 2"):
        fit(learner(lambda inputs: torch.nn.Linear(inputs, 2)), rows)
    with pytest.raises(TrainingError, match="returns a tensor, got tuple"):
        fit(learner(lambda inputs: torch.nn.GRU(inputs, 3)), rows)
    with pytest.raises(TrainingError, match=r"torch\.nn\.Module, got None"):
        fit(learner(lambda inputs: None), rows)
    with pytest.raises(ConfigError, match="one output for loss='bce'"):
        fit(learner(loss="bce"), rows)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="a device of this machine, got 'abacus'"):
        fit(learner(device="abacus"), rows_to_learn("binary"))


# What learns when -------------------------------------------------------------------------


def pretrained(inputs: int, classes: int) -> Any:
    """Return a network whose two first layers come with weights, as from a file."""
    net = Small(inputs, classes)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        loaded = Small(inputs, classes)
    net.first.load_state_dict(loaded.first.state_dict())
    net.second.load_state_dict(loaded.second.state_dict())
    return net


def untrained(network: Any = pretrained, **how: Any) -> TorchModel:
    return fit(learner(network, lr=0.0, weight_decay=0.0, **how), rows_to_learn("binary"))


@pytest.mark.parametrize(
    ("freeze", "learnt"),
    [
        ("first", {"second", "head"}),
        (["first.*", "second"], {"head"}),
        ("first|second", {"head"}),
        ("(first|second).weight", {"first", "second", "head"}),
        ("head", {"first", "second"}),
    ],
)
def test_what_is_frozen_does_not_learn(freeze: Any, learnt: set[str]) -> None:
    rows = rows_to_learn("binary")
    start = "champion" if freeze == "head" else "pretrained"
    before = untrained()
    model = fit(learner(pretrained, freeze=freeze), rows, start=start, previous=before)
    assert changed(model, before) == learnt


def test_from_scratch_only_weights_that_a_factory_loads_are_frozen() -> None:
    rows = rows_to_learn("binary")
    held = fit(learner(pretrained, freeze=["first", "head"]), rows)
    assert changed(held, untrained()) == {"second", "head"}
    drawn = fit(learner(Small, freeze="first"), rows)
    assert changed(drawn, untrained(Small)) == {"first", "second", "head"}
    with pytest.raises(TrainingError, match=r"got random ones in `first\.weight`"):
        fit(learner(Small, freeze="first"), rows, start="pretrained")


def test_a_pattern_for_nothing_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="the nearest name is 'second'"):
        fit(learner(freeze="secnd"), rows_to_learn("binary"))
    with pytest.raises(ConfigError, match="the nearest name is 'head'"):
        fit(learner(lr={"haed": 0.1, "*": 0.1}), rows_to_learn("binary"))


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(TrainingError, match="all of them frozen"):
        fit(
            learner(freeze="*"),
            rows_to_learn("binary"),
            start="champion",
            previous=untrained(Small),
        )


def test_frozen_normalisation_keeps_its_statistics() -> None:
    def normed(inputs: int, classes: int) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            body = torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.BatchNorm1d(8))
        return torch.nn.Sequential(body, torch.nn.ReLU(), torch.nn.Linear(8, classes))

    rows = rows_to_learn("binary")
    held = weights(fit(learner(normed, freeze="0"), rows, start="pretrained"))
    free = weights(fit(learner(normed), rows, start="pretrained"))
    assert held["0.1.running_mean"].tolist() == [0.0] * 8
    assert held["0.1.num_batches_tracked"] == 0
    assert free["0.1.running_mean"].tolist() != [0.0] * 8


@pytest.mark.parametrize(
    ("epochs", "learnt"), [(2, {"head"}), (3, {"head", "second"}), (5, {"head", "second", "first"})]
)
def test_layers_thaw_from_the_head_down(epochs: int, learnt: set[str]) -> None:
    made = learner(pretrained, thaw=2, epochs=epochs)
    model = fit(made, rows_to_learn("binary"), start="pretrained")
    assert changed(model, untrained()) == learnt


def test_groups_are_the_modules_below_what_all_share() -> None:
    names = ["net.a.0.weight", "net.a.0.bias", "net.b.weight"]
    assert groups(names) == [["net.b.weight"], ["net.a.0.weight", "net.a.0.bias"]]
    assert groups(["weight", "bias"]) == [["bias"], ["weight"]]


def test_each_pattern_has_its_own_rate() -> None:
    rows = rows_to_learn("binary")
    made = learner(lr={"head": 0.01, "*": 0.0}, weight_decay=0.0)
    assert changed(fit(made, rows), untrained(Small)) == {"head"}
    with pytest.raises(ConfigError, match=r"got none for `first\.weight`"):
        fit(learner(lr={"head": 0.01}), rows)


def test_an_optimiser_of_ones_own_is_given_the_groups() -> None:
    seen: list[Any] = []

    def plain(given: Any) -> Any:
        seen.extend(given)
        return torch.optim.SGD(given)

    fit(
        learner(optimiser=plain, lr={"head": 0.1, "*": 0.01}, weight_decay=0.5),
        rows_to_learn("binary"),
    )
    assert [(one["lr"], one["weight_decay"]) for one in seen] == [(0.1, 0.5), (0.01, 0.5)]


def test_a_step_is_no_longer_than_the_gradient_may_be() -> None:
    def plain(given: Any) -> Any:
        return torch.optim.SGD(given)

    rows = rows_to_learn("binary").head(64)
    how = {"optimiser": plain, "lr": 1.0, "epochs": 1, "weight_decay": 0.0}
    before = weights(untrained(Small))
    after = weights(fit(learner(clip=0.01, **how), rows))
    moved = math.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in after))
    assert moved == pytest.approx(0.01, rel=1e-3)


# When training stops ----------------------------------------------------------------------


def test_the_best_weights_are_kept_and_training_stops_after_its_patience() -> None:
    # The labels of the newest rows are turned around: what is learnt makes them worse.
    rows = rows_to_learn("binary").with_columns(
        pl.when(pl.int_range(pl.len()) < 350)
        .then("_label")
        .otherwise(1 - pl.col("_label"))
        .alias("_label")
    )
    made = learner(epochs=30, patience=3)
    model = fit(made, rows)
    held = [after for _, after in model.history]
    assert len(held) == 4
    assert model.held.best == 0
    short = fit(learner(epochs=1, patience=3), rows)
    assert changed(model, short) == set()
    assert held[0] == min(one for one in held if one is not None)


def test_the_rows_held_back_are_the_newest() -> None:
    rows = rows_to_learn("binary").reverse()
    shown = rows.with_columns(
        pl.when(pl.col("_id") >= 360).then(pl.lit(1e9)).otherwise("value").alias("value")
    )
    seen: list[float] = []

    class Watching(Small):
        def forward(self, x: Any) -> Any:
            if self.training:
                seen.append(float(x[:, 0].max()))
            return super().forward(x)

    fit(learner(Watching, patience=2, tail=0.1, epochs=1), shown)
    assert max(seen) < 0.0  # the mean lies far above every row but those held back


def test_few_rows_are_all_trained_on() -> None:
    model = fit(learner(patience=1, epochs=5), rows_to_learn("binary").head(9))
    assert [after for _, after in model.history] == [None] * 5


def test_a_loss_that_runs_away_is_said_with_a_way_out() -> None:
    def plain(given: Any) -> Any:
        return torch.optim.SGD(given)

    made = learner(optimiser=plain, lr=1e18, clip=None, loss="mse")
    with pytest.raises(
        TrainingError, match=r"finite number, got (nan|inf) in epoch \d of 4\n\nhint: lower"
    ):
        fit(made, rows_to_learn("regression"))


# Repeating --------------------------------------------------------------------------------


def test_a_seed_decides_all_and_torch_is_left_as_it_was() -> None:
    def dropping(inputs: int, classes: int) -> Any:
        return torch.nn.Sequential(
            Small(inputs, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, classes)
        )

    rows = rows_to_learn("binary")
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one = fit(learner(dropping), rows, seed=1)
    torch.rand(5)
    assert fit(learner(dropping), rows, seed=1).dumps() == one.dumps()
    assert fit(learner(dropping), rows, seed=2).dumps() != one.dumps()
    torch.set_rng_state(state)
    fit(learner(dropping), rows, seed=1).predict(rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def counted(outputs: Any, labels: Any) -> Any:
    """Cross entropy that is interrupted after as many calls as the environment says."""
    left = int(os.environ.get("CALLS_LEFT", "-1"))
    if left == 0:
        raise KeyboardInterrupt
    os.environ["CALLS_LEFT"] = str(left - 1)
    return torch.nn.functional.cross_entropy(outputs, labels)


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(inputs: int, classes: int) -> Any:
        return torch.nn.Sequential(
            Small(inputs, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, classes)
        )

    rows = rows_to_learn("binary")
    how = {"loss": counted, "task": "classification", "epochs": 6, "patience": 6}
    monkeypatch.setenv("CALLS_LEFT", "-1")
    whole = fit(learner(dropping, **how), rows)

    made = learner(dropping, checkpoints=tmp_path / "kept", **how)
    # Six steps and one look at the rows held back make an epoch.
    monkeypatch.setenv("CALLS_LEFT", str(7 * 3 + 2))
    with pytest.raises(KeyboardInterrupt):
        fit(made, rows)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    monkeypatch.setenv("CALLS_LEFT", "1000")
    resumed = fit(made, rows)
    assert 1000 - int(os.environ["CALLS_LEFT"]) == 7 * 3  # the three epochs that were left
    assert resumed.held.weights == whole.held.weights
    assert resumed.history == whole.history
    assert list((tmp_path / "kept").iterdir()) == []


def dying(outputs: Any, labels: Any) -> Any:
    """Cross entropy that ends its process after as many calls as a file says."""
    calls = Path(os.environ["CALLS"])
    left = int(calls.read_text())
    if left == 0:
        os._exit(3)
    calls.write_text(str(left - 1))
    return torch.nn.functional.cross_entropy(outputs, labels)


def test_a_training_whose_worker_died_goes_on_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    how = {"loss": dying, "task": "classification", "checkpoints": tmp_path / "kept"}
    task = Task(learner=learner(**how), rows=rows_to_learn("binary"), seed=3)
    worker = executors.Local()
    try:
        calls.write_text(str(7 * 2 + 3))  # seven steps make an epoch
        assert worker.run(task).reason == "crashed"
        calls.write_text("1000")
        resumed = worker.run(task)
        assert 1000 - int(calls.read_text()) == 7 * 2
        calls.write_text("1000")
        whole = worker.run(task)
        assert 1000 - int(calls.read_text()) == 7 * 4
    finally:
        worker.close()
    assert resumed.model is not None
    assert resumed.model == whole.model


def test_other_rows_or_another_seed_do_not_go_on_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_to_learn("binary")
    made = learner(checkpoints=tmp_path, loss=counted, task="classification")
    monkeypatch.setenv("CALLS_LEFT", "10")
    with pytest.raises(KeyboardInterrupt):
        fit(made, rows)
    for other in ({"seed": 4}, {"rows": rows.head(390)}):
        monkeypatch.setenv("CALLS_LEFT", "1000")
        model = fit(made, **{"rows": rows, "seed": 3, **other})  # type: ignore[arg-type]
        assert 1000 - int(os.environ["CALLS_LEFT"]) == 7 * 4
        assert len(model.history) == 4


def test_a_checkpoint_that_is_torn_starts_the_training_anew(tmp_path: Path) -> None:
    (tmp_path / "key.checkpoint").write_bytes(b"PK\x03\x04torn")
    checkpoint = Checkpoint(tmp_path, "key")
    assert checkpoint.read() is None
    checkpoint.write({"epoch": 1, "weights": {"a": torch.ones(2)}})
    found = checkpoint.read()
    assert found is not None
    assert found["weights"]["a"].tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["key.checkpoint"]


# A loop of one's own ----------------------------------------------------------------------


def my_loop(net: Any, batch: Any) -> None:
    """Train as a user's file does."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(6):
        for inputs, labels in batch:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs), labels).backward()
            optimiser.step()


def test_a_loop_of_ones_own_trains_as_it_stands() -> None:
    rows = rows_to_learn("binary")
    made = Torch(Small, train=my_loop, batch_size=64)
    model = fit(made, rows)
    assert accuracy(model, rows_to_learn("binary", seed=1)) > 0.9
    assert model.history == ()
    assert fit(made, rows).dumps() == model.dumps()
    frozen = fit(Torch(pretrained, train=my_loop, freeze="first"), rows, start="pretrained")
    assert "first" not in changed(frozen, untrained())


def test_a_loop_of_ones_own_is_given_each_row_once_in_a_new_order() -> None:
    passes: list[list[float]] = []

    def looking(net: Any, batch: Any) -> None:
        assert len(batch) == 6
        for _ in range(2):
            found = torch.cat([inputs[:, 0] for inputs, _ in batch])
            passes.append(found.tolist())

    fit(Torch(Small, train=looking, batch_size=64), rows_to_learn("binary").head(385))
    assert passes[0] != passes[1]
    assert sorted(passes[0]) == sorted(passes[1])
    assert len(passes[0]) == 385


def test_a_loop_that_spoils_the_weights_is_caught() -> None:
    def spoiling(net: Any, batch: Any) -> None:
        with torch.no_grad():
            net.head.bias.fill_(math.nan)

    with pytest.raises(TrainingError, match=r"finite numbers, got others in `head\.bias`"):
        fit(Torch(Small, train=spoiling), rows_to_learn("binary"))


# Models -----------------------------------------------------------------------------------


def test_a_model_loads_without_running_the_factory_again() -> None:
    built = []

    def counting(inputs: int, classes: int) -> Any:
        built.append(inputs)
        return Small(inputs, classes)

    rows = rows_to_learn("multiclass")
    model = fit(learner(counting), rows)
    before = len(built)
    loaded = learners.loads(model.dumps())
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert len(built) == before


def test_keepfits_own_network_is_stored_without_code() -> None:
    rows = rows_to_learn("binary")
    model = fit(learner(None), rows)
    assert model.held.plan == b""
    assert b"cloudpickle" not in model.dumps()
    assert learners.loads(model.dumps()).dumps() == model.dumps()


def test_buffers_that_a_network_does_not_save_are_kept_all_the_same() -> None:
    class Turned(Small):
        def __init__(self, inputs: int, classes: int) -> None:
            super().__init__(inputs, classes)
            self.register_buffer("scale", torch.full((1,), 3.0), persistent=False)

        def forward(self, x: Any) -> Any:
            return super().forward(x * self.scale)

    rows = rows_to_learn("binary")
    model = fit(learner(Turned), rows)
    loaded = learners.loads(model.dumps())
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert float(loaded.net.scale) == 3.0


def test_bytes_that_are_no_network_are_refused() -> None:
    from keepfit.learners.torch.model import restore

    model = fit(learner(None), rows_to_learn("binary"))
    with pytest.raises(ArtifactCorrupt, match="expected a network"):
        restore(model.head, b"\x00")
    torn = {**model.held.weights}
    torn.popitem()
    from msgspec import msgpack
    from msgspec.structs import replace

    with pytest.raises(ArtifactCorrupt, match="those of another one"):
        _ = restore(model.head, msgpack.encode(replace(model.held, weights=torn))).net


def test_importances_rank_the_columns() -> None:
    rows = rows_to_learn("binary")
    for network in (None, Small):
        found = fit(learner(network, epochs=20), rows).importances()
        assert set(found) == set(rows.columns) - {"_id", "_time", "_arrived_at", "_label"}
        assert found["value"] > found["count"]
    assert fit(learner(Apart), rows).importances() == {}


def test_a_network_that_cannot_be_kept_is_refused() -> None:
    net = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))
    with pytest.raises(ConfigError, match="kept as bytes, got ParametrizedLinear"):
        learner(net)

    class Reading(Small):
        def __init__(self, inputs: int, classes: int) -> None:
            super().__init__(inputs, classes)
            self.lines = (line for line in "ab")

    with pytest.raises(ConfigError, match="kept as bytes, got Reading"):
        learner(Reading(9, 2))


def test_a_network_that_cannot_be_pickled_is_kept_as_its_factory() -> None:
    def normed(inputs: int, classes: int) -> Any:
        head = torch.nn.Linear(inputs, classes)
        return torch.nn.utils.parametrizations.weight_norm(head)

    rows = rows_to_learn("multiclass")
    made = learner(normed, epochs=8)
    model = fit(made, rows)
    loaded = learners.loads(model.dumps())
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert loaded.dumps() == model.dumps() == fit(made, rows).dumps()
    assert fit(made, rows, start="champion", previous=loaded).transfer.share == 1.0


def test_keepfit_is_imported_without_torch() -> None:
    code = "import sys, keepfit.learners.torch, keepfit; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_row_is_answered_to_the_last_digits_alike_alone_and_among_others() -> None:
    rows = rows_to_learn("regression", height=3_000).with_columns(pl.col("_label") * 1e4)
    model = fit(learner(None, epochs=2), rows)
    answers = model.predict(rows)
    alone = np.concatenate([model.predict(rows[i : i + 1]) for i in range(0, 3_000, 300)])
    np.testing.assert_allclose(alone, answers[::300], rtol=1e-13)
    torch.set_num_threads(2)
    np.testing.assert_allclose(model.predict(rows), answers, rtol=1e-13)


def test_a_network_that_casts_inside_answers_in_its_own_precision() -> None:
    class Casting(Small):
        def forward(self, x: Any) -> Any:
            return super().forward(x.float())

    rows = rows_to_learn("binary")
    assert fit(learner(), rows).held.exact
    model = fit(learner(Casting), rows)
    assert not model.held.exact
    np.testing.assert_allclose(model.predict(rows[:5]), model.predict(rows)[:5], rtol=1e-4)


def test_numbers_whose_squares_are_infinite_are_learnt_from() -> None:
    rows = rows_to_learn("binary").with_columns(pl.col("value") * 1e300)
    assert accuracy(fit(learner(epochs=12), rows), rows) > 0.9


def test_layers_thaw_in_a_first_training_on_loaded_weights_too() -> None:
    model = fit(learner(pretrained, thaw=2, epochs=3), rows_to_learn("binary"))
    assert changed(model, untrained()) == {"head", "second"}
    drawn = fit(learner(Small, thaw=2, epochs=1), rows_to_learn("binary"))
    assert changed(drawn, untrained(Small)) == {"first", "second", "head"}


def test_a_checkpoint_of_another_network_starts_the_training_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_to_learn("binary")
    made = learner(checkpoints=tmp_path, loss=counted, task="classification")
    monkeypatch.setenv("CALLS_LEFT", "10")
    with pytest.raises(KeyboardInterrupt):
        fit(made, rows)
    (kept,) = tmp_path.iterdir()
    state = torch.load(kept, weights_only=True)
    state["weights"].popitem()
    torch.save(state, kept)
    monkeypatch.setenv("CALLS_LEFT", "1000")
    assert len(fit(made, rows).history) == 4
    assert 1000 - int(os.environ["CALLS_LEFT"]) == 7 * 4


def test_a_network_without_weights_has_nothing_to_learn() -> None:
    with pytest.raises(TrainingError, match="expected something to learn, got 0 parameters"):
        fit(
            learner(lambda: torch.nn.Identity()),
            rows_to_learn("binary").select("_id", "_label", "value", "other"),
        )
