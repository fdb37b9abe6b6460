"""What every learner promises, as a check that a learner of your own can be put to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit import learners
from keepfit.batch import ARRIVED_AT, ID, LABEL, TIME, WEIGHT
from keepfit.errors import SchemaMismatch, TrainingError
from keepfit.learners import loads
from keepfit.protocols import Learner, Model

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

TASKS = ("binary", "multiclass", "regression")


def check_learner(learner: Learner, *, task: str = "binary", mixed: bool = True) -> None:
    """Check that a learner keeps what `keepfit.protocols.Learner` promises.

    Parameters
    ----------
    learner
        The learner, with few enough rounds to train several times in a second.
    task
        What its labels are: ``"binary"``, ``"multiclass"`` or ``"regression"``.
    mixed
        Whether rows have texts, times and missing values beside numbers.

    Raises
    ------
    AssertionError
        It does not; the message says which promise.
    """
    import numpy as np

    rows, later = rows_to_learn(task, mixed=mixed), rows_to_learn(task, mixed=mixed, seed=1)
    before = rows.clone()
    _require(isinstance(learner, Learner), "it has a name, a fingerprint, parameters and `fit`")
    _require(bool(learner.name) and "\n" not in learner.name, "its name is one line")
    _check_json(learner.parameters)
    model = _fit(learner, rows)
    _require(rows.equals(before), "training leaves the rows as they were")
    _check_answers(model, later, task)
    answers = model.predict(later)

    same = _fit(learner, rows)
    _require(same.dumps() == model.dumps(), "the same training twice gives the same bytes")
    loaded = loads(model.dumps())
    _require(bool((loaded.predict(later) == answers).all()), "a model answers alike after loading")
    _require(loaded.dumps() == model.dumps(), "a loaded model gives the same bytes")

    if learners.weighs(learner):
        _check_weights(learner, rows, later)

    alone = np.concatenate([model.predict(later[i : i + 1]) for i in range(5)])
    _require(np.allclose(alone, answers[:5]), "a row is answered alike alone and among others")
    turned = model.predict(later.reverse().select(sorted(later.columns)))
    _require(np.allclose(turned[::-1], answers), "the order of rows and columns changes no answer")
    bare = later.select(model.features)
    _require(np.allclose(model.predict(bare), answers), "keepfit's own columns change no answer")
    _require(len(model.predict(later.clear())) == 0, "no rows get no answers")
    _check_schema(model, later)
    if mixed:
        _check_strange(model, later)
    _check_champion(learner, model, rows, later)
    _check_transfer(learner, model, later, mixed=mixed)


def rows_to_learn(
    task: str, *, mixed: bool = True, seed: int = 0, height: int = 400
) -> pl.DataFrame:
    """Return rows with a label that their features tell, in keepfit's columns."""
    from datetime import UTC, datetime, timedelta

    import numpy as np
    import polars as pl

    random = np.random.default_rng(seed)
    value, other = random.normal(size=height), random.uniform(0, 5, size=height)
    group = random.choice(["north", "south", "west"], height)
    signal = value + (group == "north") + random.normal(scale=0.2, size=height)
    start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=seed)
    times = [start + timedelta(minutes=i) for i in range(height)]
    columns: dict[str, Any] = {ID: np.arange(height), TIME: times, ARRIVED_AT: times}
    columns |= {"value": value, "other": other, "count": random.integers(0, 9, height)}
    if mixed:
        columns |= {"group": group, "open": random.random(height) < 0.5}
        columns |= {"seen_at": [times[i] - timedelta(hours=i % 50) for i in range(height)]}
    labels = {
        "binary": (signal > 0.3).astype(int),
        "multiclass": np.array(["high", "low", "mid"])[np.digitize(signal, [-0.3, 0.9])],
        "regression": signal,
    }
    frame = pl.DataFrame(columns).with_columns(pl.Series(LABEL, labels[task]))
    gaps = pl.int_range(pl.len()) % 11 == 3
    missing = [pl.when(~gaps).then(pl.col(name)).alias(name) for name in ("other", "group")]
    return frame.with_columns(missing) if mixed else frame


def _fit(learner: Learner, rows: pl.DataFrame, **how: Any) -> Model:
    settings = {"start": "scratch", "update": "all", "previous": None, "seed": 7, **how}
    return learner.fit(rows, **settings)


def _require(kept: bool, promise: str) -> None:
    if not kept:
        raise AssertionError(f"a learner promises: {promise}")


def _check_json(parameters: dict[str, Any]) -> None:
    import json

    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"a learner promises: its parameters are JSON ({error})") from error


def _check_answers(model: Model, rows: pl.DataFrame, task: str) -> None:
    import numpy as np

    answers: np.ndarray = model.predict(rows)
    _require(model.task == task, f"the task is {task}")
    _require(answers.dtype == np.float64, "answers are float64")
    _require(bool(np.isfinite(answers).all()), "answers are finite")
    width = (len(model.classes),) if task == "multiclass" else ()
    _require(answers.shape == (rows.height, *width), "there is one answer per row")
    labels = model.codes(rows.get_column(LABEL))
    if task == "regression":
        _require(model.classes == (), "a regression has no classes")
        error, spread = np.abs(answers - labels).mean(), np.abs(labels - labels.mean()).mean()
        _require(bool(error < spread), "answers are nearer to the labels than their mean is")
        return
    _require(list(model.classes) == sorted(model.classes), "classes are sorted")
    _require(bool(((answers >= 0) & (answers <= 1)).all()), "probabilities lie between 0 and 1")
    if task == "multiclass":
        _require(np.allclose(answers.sum(axis=1), 1.0), "probabilities of a row add up to one")
    chosen = answers.argmax(axis=1) if task == "multiclass" else (answers > 0.5).astype(int)
    common = np.bincount(labels).max() / labels.size
    _require(bool((chosen == labels).mean() > common), "answers beat the most common class")


def _check_weights(learner: Learner, rows: pl.DataFrame, later: pl.DataFrame) -> None:
    import numpy as np
    import polars as pl

    heavy = pl.when(pl.int_range(pl.len()) % 2 == 0).then(20.0).otherwise(1.0)
    plain = _fit(learner, rows)
    model = _fit(learner, rows.with_columns(heavy.alias(WEIGHT)))
    _require(model.features == plain.features, "what rows weigh is no feature")
    moved = not np.allclose(model.predict(later), plain.predict(later))
    _require(moved, "rows that weigh more count for more")


def _check_schema(model: Model, rows: pl.DataFrame) -> None:
    for name in model.features:
        try:
            model.predict(rows.drop(name))
        except SchemaMismatch as error:
            _require(f"`{name}`" in error.message, "the missing column is named")
        else:
            raise AssertionError(
                f"a learner promises: without `{name}` a model raises SchemaMismatch"
            )


def _check_strange(model: Model, rows: pl.DataFrame) -> None:
    import numpy as np
    import polars as pl

    strange = rows.with_columns(
        pl.lit(float("inf")).alias("value"),
        pl.lit(None, dtype=pl.Float64).alias("other"),
        pl.lit("unheard of").alias("group"),
        pl.lit(None, dtype=pl.Boolean).alias("open"),
    )
    answers = model.predict(strange)
    _require(bool(np.isfinite(answers).all()), "missing, infinite and unseen values get an answer")
    gone = model.predict(strange.with_columns(pl.lit(None, dtype=pl.String).alias("group")))
    _require(np.allclose(gone, answers), "an unseen category is answered as a missing one")


def _check_champion(
    learner: Learner, model: Model, rows: pl.DataFrame, later: pl.DataFrame
) -> None:
    content = model.dumps()
    ways = getattr(learner, "ways", ())
    for start, update in ways:
        if start != "champion":
            continue
        new = _fit(learner, later, start=start, update=update, previous=loads(content))
        again = _fit(learner, later, start=start, update=update, previous=loads(content))
        _require(new.dumps() == again.dumps(), "the same warm start twice gives the same bytes")
        _require(new.dumps() != content, "a warm start changes something")
        _require(new.features == model.features, "a warm start keeps the champion's columns")
        _require(new.classes == model.classes, "a warm start keeps the champion's classes")
        _check_answers(new, rows, model.task)
        _fit(learner, later, start=start, update=update, previous=model)
        _require(model.dumps() == content, "a warm start leaves the champion as it was")


def _check_transfer(learner: Learner, model: Model, later: pl.DataFrame, *, mixed: bool) -> None:
    import numpy as np
    import polars as pl

    # Another stream: a column more, a column less, and a category that the donor has not seen.
    other = later.drop("count").with_columns(pl.col("value").alias("more"))
    if mixed:
        other = other.with_columns(pl.col("group").replace("west", "east"))
    content = model.dumps()
    for start, update in getattr(learner, "ways", ()):
        if start != "transfer":
            continue
        how = {"start": start, "update": update}
        try:
            new = _fit(learner, other, **how, previous=loads(content))
        except TrainingError:
            # What does not learn has to come from the donor whole: the same columns then.
            other = later
            new = _fit(learner, other, **how, previous=loads(content))
        again = _fit(learner, other, **how, previous=loads(content))
        _require(new.dumps() == again.dumps(), "the same transfer twice gives the same bytes")
        _require(loads(content).dumps() == content, "a transfer leaves its donor as it was")
        answers = new.predict(other)
        _require(bool(np.isfinite(answers).all()), "a model that started elsewhere answers")
        shared = set(model.features) & set(other.columns)
        _require(shared <= set(new.features), "the columns that both have are used")
        _require(set(new.features) <= set(other.columns), "no column is needed that is not there")
