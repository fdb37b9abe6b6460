"""Networks of PyTorch: the contract, rows as tensors, settings, models as bytes."""

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
from lightgbm import LGBMClassifier
from msgspec import msgpack
from msgspec.structs import replace

from keepfit import learners
from keepfit.errors import (
    ArtifactCorrupt,
    ConfigError,
    LabelsMissing,
    SchemaMismatch,
    TrainingError,
)
from keepfit.testing import check_learner
from keepfit.testing.learners import rows_to_learn
from tests import nets

torch = pytest.importorskip("torch")

from keepfit.learners.torch import Torch  # noqa: E402
from keepfit.learners.torch.model import restore  # noqa: E402
from tests.nets import Apart, Small, accuracy, fit, learner, weights  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with nets.one_thread():
        yield


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
    more = rows.with_columns(pl.col("_label").cast(pl.Float64) + 1.0)
    assert fit(learner(), more).task == "regression"
    assert fit(learner(loss="cross_entropy"), more).task == "binary"


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64, pl.Decimal(8, 2)])
def test_zeros_and_ones_that_became_floats_are_classes(dtype: Any) -> None:
    whole = rows_to_learn("binary")
    label = pl.when(pl.int_range(pl.len()) > 9).then(pl.col("_label").cast(dtype))
    rows = whole.with_columns(_label=label)
    if dtype.is_float():
        rows[11, "_label"] = math.nan
    model = fit(learner(), rows)
    others = learners.resolve(LGBMClassifier(n_estimators=2, verbose=-1))
    boosted = others.fit(rows, start="scratch", update="all", previous=None, seed=0)
    assert model.classes == boosted.classes == (0, 1)
    assert {type(one) for one in model.classes} == {int}
    assert accuracy(model, whole) > 0.8
    assert fit(learner(task="regression"), rows).task == "regression"
    assert fit(learner(loss="mse"), rows).task == "regression"
    half = rows.with_columns(pl.col("_label").replace(1, 0.5))
    assert fit(learner(), half).task == "regression"
    on = {"start": "champion", "previous": fit(learner(), half)}
    assert fit(learner(), rows, **on).task == "regression"


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
    huge = rows.with_columns(pl.col("pixels").list.eval(pl.element() * 1e200))
    assert np.isfinite(model.predict(huge)).all()
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


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [(48, r"nn\.Unflatten\(1, \(3, 4, 4\)\)"), (30, r"\(1, \(3, rows, columns\)\)")],
)
def test_a_network_for_images_is_told_how_they_come(pixels: int, wanted: str) -> None:
    rows = rows_to_learn("binary").select(
        pl.col("^_.*$"), image=pl.lit([0.5] * pixels, dtype=pl.List(pl.Float32))
    )
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    with pytest.raises(TrainingError, match=rf"for {pixels} inputs.*\n\nhint: .*{wanted}"):
        fit(learner(net), rows)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="a device of this machine, got 'abacus'"):
        fit(learner(device="abacus"), rows_to_learn("binary"))


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
    model = fit(learner(None), rows_to_learn("binary"))
    with pytest.raises(ArtifactCorrupt, match="expected a network"):
        restore(model.head, b"\x00")
    torn = {**model.held.weights}
    torn.popitem()
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


def test_numbers_whose_squares_single_precision_does_not_hold_are_learnt_from() -> None:
    rows = rows_to_learn("binary").with_columns(pl.col("value") * 1e37)
    assert accuracy(fit(learner(epochs=12), rows), rows) > 0.9


ABSENT = """
import sys
sys.modules["torch"] = None
from keepfit import errors, learners
from keepfit.testing.learners import rows_to_learn
model = learners.loads(open(sys.argv[1], "rb").read())
print(learners.Torch(lr=0.1).name, model.features[0])
for ask in (
    lambda: learners.Torch().fit(
        rows_to_learn("binary"), start="scratch", update="all", previous=None, seed=0
    ),
    lambda: model.predict(rows_to_learn("binary")),
):
    try:
        ask()
    except errors.ExtraMissing as error:
        print(error.hint)
"""


def test_without_torch_it_is_said_what_to_install(tmp_path: Path) -> None:
    kept = tmp_path / "model"
    kept.write_bytes(fit(learner(None), rows_to_learn("binary")).dumps())
    command = [sys.executable, "-c", ABSENT, str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = 'pip install "keepfit[torch]"'
    assert done.stdout.splitlines() == ["Torch(lr=0.1) value", wanted, wanted]
