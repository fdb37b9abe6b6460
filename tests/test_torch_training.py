"""How networks of PyTorch train: what learns when, when it is enough, cuts, loops of one's own."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from keepfit import executors, learners
from keepfit.errors import (
    ConfigError,
    TrainingError,
)
from keepfit.protocols import Task
from keepfit.testing.learners import rows_to_learn
from tests import nets

torch = pytest.importorskip("torch")

from keepfit.learners.torch import Torch  # noqa: E402
from keepfit.learners.torch.checkpoints import Checkpoint  # noqa: E402
from keepfit.learners.torch.patterns import groups  # noqa: E402
from tests.nets import (  # noqa: E402
    Small,
    accuracy,
    changed,
    fit,
    learner,
    my_loop,
    pretrained,
    untrained,
    weights,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with nets.one_thread():
        yield


# What learns when -------------------------------------------------------------------------


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


def test_a_head_alone_learns_on_a_pretrained_body() -> None:
    rows = rows_to_learn("binary")
    model = fit(learner(pretrained), rows, start="pretrained", update="head")
    assert changed(model, untrained()) == {"head"}


def test_the_ways_to_train_are_told() -> None:
    for start, update in (("pretrained", "head"), ("champion", "head"), ("champion", "all")):
        learners.validate(learners.Torch(Small), start, update)
    with pytest.raises(ConfigError, match="start='champion' with update='leaves'"):
        learners.validate(learners.Torch(Small), "champion", "leaves")
    with pytest.raises(ConfigError, match="start='pretrained'"):
        learners.validate(learners.Torch(), "pretrained", "all")


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


def test_layers_thaw_in_a_first_training_on_loaded_weights_too() -> None:
    model = fit(learner(pretrained, thaw=2, epochs=3), rows_to_learn("binary"))
    assert changed(model, untrained()) == {"head", "second"}
    drawn = fit(learner(Small, thaw=2, epochs=1), rows_to_learn("binary"))
    assert changed(drawn, untrained(Small)) == {"first", "second", "head"}


def test_a_network_without_weights_has_nothing_to_learn() -> None:
    with pytest.raises(TrainingError, match="expected something to learn, got 0 parameters"):
        fit(
            learner(lambda: torch.nn.Identity()),
            rows_to_learn("binary").select("_id", "_label", "value", "other"),
        )


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
    checkpoint.write(lambda: {"epoch": 1, "weights": {"a": torch.ones(2)}})
    found = checkpoint.read()
    assert found is not None
    assert found["weights"]["a"].tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["key.checkpoint"]


def test_short_trainings_leave_nothing_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fit(learner(), rows_to_learn("binary"))
    assert list(tmp_path.glob("keepfit-*")) == []


def test_long_trainings_leave_their_state_where_only_their_user_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("keepfit.learners.torch.checkpoints.SECONDS", 0.0)
    monkeypatch.setenv("CALLS_LEFT", "10")
    made = learner(loss=counted, task="classification")
    with pytest.raises(KeyboardInterrupt):
        fit(made, rows_to_learn("binary"))
    # PyTorch may put a folder of its own there, the first time that it is asked for something.
    (folder,) = tmp_path.glob("keepfit-*")
    assert len(list(folder.iterdir())) == 1
    assert os.name == "nt" or folder.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("CALLS_LEFT", "1000")
    fit(made, rows_to_learn("binary"))
    assert 1000 - int(os.environ["CALLS_LEFT"]) == 7 * 3
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_a_checkpoint_that_nobody_went_on_with_is_thrown_away_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"keepfit-checkpoints-{os.getuid()}"
    folder.mkdir()
    for name, days in (("old", 8), ("new", 6)):
        (folder / name).touch()
        then = time.time() - days * 86_400
        os.utime(folder / name, (then, then))
    Checkpoint(None, "key")
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_checkpoints_are_not_read_from_a_folder_that_another_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary" / f"keepfit-checkpoints-{os.getuid()}").symlink_to(tmp_path / "theirs")
    torch.save({"epoch": 1}, tmp_path / "theirs" / "key.checkpoint")
    monkeypatch.setattr("keepfit.learners.torch.checkpoints.SECONDS", 0.0)
    checkpoint = Checkpoint(None, "key")
    assert checkpoint.read() is None
    checkpoint.write(lambda: {"epoch": 2})
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["key.checkpoint"]
    assert torch.load(tmp_path / "theirs" / "key.checkpoint", weights_only=True) == {"epoch": 1}


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


# A loop of one's own ----------------------------------------------------------------------


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
