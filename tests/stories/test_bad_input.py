"""Bad input gets a clear error or a finding, and loses nothing."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from tests.worlds import START, stream

from keepfit import Pipeline, checks, drift, executors, sources, triggers
from keepfit.errors import ConfigError, KeepfitError, SchemaMismatch, SourceError
from keepfit.facts import UNLEARNT, Arrived, Entry, Found, Outcome, Promoted, TrainingFailed

LEARNERS = {
    "lightgbm": LGBMClassifier(n_estimators=10),
    "scikit-learn": HistGradientBoostingClassifier(max_iter=10),
}


@pytest.fixture(params=sorted(LEARNERS))
def learner(request: pytest.FixtureRequest) -> Any:
    return LEARNERS[request.param]


def lived(source: Any, learner: Any, home: Path, **parts: Any) -> list[Entry]:
    """Return the facts of a live run over all that a source has."""
    made = Pipeline(
        "bad",
        source,
        learner,
        metric="accuracy",
        every="5d",
        enough=50,
        home=home,
        executor=executors.Inline(),
        **parts,
    )
    try:
        made.run(once=True)
        return list(made.loop().memory.ledger.facts("bad"))
    finally:
        made.close()


def framed(frame: Any, **roles: Any) -> sources.Frame:
    return sources.Frame(frame, **({"id": "id", "time": "time", "label": "label"} | roles))


def of(entries: list[Entry], kind: type) -> list[Any]:
    return [entry.fact for entry in entries if isinstance(entry.fact, kind)]


def said(entries: list[Entry]) -> str:
    """Return all findings that are no pass, as text."""
    return "\n".join(
        finding.message
        for found in of(entries, Found)
        for finding in found.findings
        if finding.outcome in (Outcome.WARN, Outcome.BLOCK)
    )


def landed(entries: list[Entry]) -> int:
    return sum(arrived.rows for arrived in of(entries, Arrived))


def changed(frame: pl.DataFrame, day: int, *then: pl.Expr) -> pl.DataFrame:
    """Return a stream in which columns change from a day on."""
    late = pl.col("time") >= START + timedelta(days=day)
    return frame.with_columns(
        pl.when(late).then(expr).otherwise(pl.col(expr.meta.output_name())) for expr in then
    )


# What stands in the way at once ----------------------------------------------------------


def test_an_empty_folder_says_what_it_looked_for(tmp_path: Path, learner: Any) -> None:
    (tmp_path / "rows").mkdir()
    source = sources.Parquet(tmp_path / "rows", id="id", time="time", label="label")
    with pytest.raises(SourceError, match=r"no \.parquet files") as caught:
        Pipeline("bad", source, learner, home=tmp_path / "home").backtest(compare=False)
    assert caught.value.hint


def test_an_empty_folder_leaves_a_live_loop_waiting(tmp_path: Path, learner: Any) -> None:
    (tmp_path / "rows").mkdir()
    source = sources.Parquet(tmp_path / "rows", id="id", time="time", label="label")
    assert lived(source, learner, tmp_path / "home") == []


@pytest.mark.parametrize("column", ["id", "time", "label"])
def test_a_missing_column_is_named_with_the_nearest(
    tmp_path: Path, learner: Any, column: str
) -> None:
    frame = stream(5).rename({column: f"{column}s"})
    with pytest.raises(SchemaMismatch, match=f"`{column}` is missing") as caught:
        lived(framed(frame), learner, tmp_path)
    assert f"{column}s" in str(caught.value.hint)


def test_times_that_are_numbers_are_refused_with_a_hint(tmp_path: Path, learner: Any) -> None:
    frame = stream(5).with_columns(pl.col("time").to_physical())
    with pytest.raises(ConfigError, match="expected times in `time`, got Int64") as caught:
        lived(framed(frame), learner, tmp_path)
    assert caught.value.hint


def test_a_column_with_a_name_of_keepfits_own_is_refused(tmp_path: Path, learner: Any) -> None:
    with pytest.raises(ConfigError, match="_label"):
        lived(framed(stream(5).rename({"x": "_label"})), learner, tmp_path)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Polars, pandas or Arrow table, got list"):
        framed([1, 2, 3])


# Too little to learn from ----------------------------------------------------------------


def test_one_row_is_kept_and_not_trained_on(tmp_path: Path, learner: Any) -> None:
    entries = lived(framed(stream(5).head(1)), learner, tmp_path)
    assert landed(entries) == 1
    assert not of(entries, Promoted)


def test_one_class_alone_is_a_failed_training_that_says_so(tmp_path: Path, learner: Any) -> None:
    frame = stream(10).with_columns(pl.lit(1).alias("label"))
    entries = lived(framed(frame), learner, tmp_path)
    assert landed(entries) == frame.height
    assert not of(entries, Promoted)
    assert all("class" in failed.message for failed in of(entries, TrainingFailed))
    assert of(entries, TrainingFailed)


def test_without_any_label_rows_are_kept_and_nothing_is_trained(
    tmp_path: Path, learner: Any
) -> None:
    frame = stream(10).with_columns(pl.lit(None, pl.Int64).alias("label"))
    entries = lived(framed(frame), learner, tmp_path)
    assert landed(entries) == frame.height
    assert not of(entries, Promoted)


# Columns that are odd --------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        pl.lit(7).alias("odd"),
        pl.lit(None, pl.Float64).alias("odd"),
        pl.lit(None).alias("odd"),
        pl.lit(float("inf")).alias("odd"),
        pl.when(pl.col("x") > 1).then(float("-inf")).otherwise(pl.col("x")).alias("odd"),
        pl.lit(float("nan")).alias("odd"),
        pl.lit("").alias("odd"),
        pl.col("id").cast(pl.String).alias("odd"),
        (pl.col("x") > 0).alias("odd"),
        pl.col("time").dt.date().alias("odd"),
        pl.col("kind").cast(pl.Categorical).alias("odd"),
    ],
    ids=[
        "constant", "missing", "null", "infinite", "partly infinite", "nan", "empty text",
        "unique text", "boolean", "date", "categorical",
    ],
)  # fmt: skip
def test_an_odd_column_is_lived_with(tmp_path: Path, learner: Any, odd: pl.Expr) -> None:
    frame = stream(20).with_columns(odd)
    entries = lived(framed(frame), learner, tmp_path)
    assert landed(entries) == frame.height
    assert of(entries, Promoted)
    # An update that answers its rows a little worse is tried once more, and found to be sound.
    assert {one.reason for one in of(entries, TrainingFailed)} <= {UNLEARNT}


def test_two_thousand_columns_are_lived_with(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = pl.DataFrame({f"x{i}": rng.normal(size=1_000) for i in range(2_000)})
    frame = stream(10).hstack(wide)
    entries = lived(framed(frame), LEARNERS["lightgbm"], tmp_path)
    assert landed(entries) == frame.height
    assert of(entries, Promoted)


def asked_of_frames(monkeypatch: pytest.MonkeyPatch, home: Path, columns: int) -> Counter[str]:
    """Return how often frames of so many columns were asked for names and types of them all."""
    rng = np.random.default_rng(0)
    wide = pl.DataFrame({f"x{i}": rng.normal(size=1_000) for i in range(columns)})
    counted = Counter[str]()

    def counting(name: str, inner: Any) -> property:
        def get(self: pl.DataFrame) -> Any:
            counted[name] += 1
            return inner.fget(self)

        return property(get, inner.fset)

    frame = stream(10).hstack(wide)
    looked = [checks.Schema(), checks.Nulls(), checks.Range(), checks.Unique(), checks.Leakage()]
    trigger = triggers.OnDrift(drift.DomainClassifier()) | triggers.Every("5d")
    with monkeypatch.context() as patched:
        for name in ("columns", "dtypes", "schema"):
            patched.setattr(pl.DataFrame, name, counting(name, getattr(pl.DataFrame, name)))
        lived(framed(frame), LEARNERS["lightgbm"], home, checks=looked, trigger=trigger)
    return counted


def test_a_frame_is_not_asked_for_all_its_columns_once_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (asked_of_frames(monkeypatch, tmp_path / str(n), n) for n in (20, 60))
    assert few == many


# Columns that change under way -----------------------------------------------------------


def files(folder: Path, *frames: pl.DataFrame) -> sources.Parquet:
    folder.mkdir()
    for number, frame in enumerate(frames):
        frame.write_parquet(folder / f"{number}.parquet")
    return sources.Parquet(folder, id="id", time="time", label="label")


def halves(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return frame.head(frame.height // 2), frame.tail(frame.height - frame.height // 2)


def test_a_column_that_goes_is_found(tmp_path: Path, learner: Any) -> None:
    early, late = halves(stream(20))
    entries = lived(files(tmp_path / "rows", early, late.drop("y")), learner, tmp_path / "home")
    assert landed(entries) == 2_000
    assert "`y`" in said(entries)


def test_a_column_that_comes_is_found(tmp_path: Path, learner: Any) -> None:
    early, late = halves(stream(20))
    new = late.with_columns(pl.lit(1.5).alias("z"))
    entries = lived(files(tmp_path / "rows", early, new), learner, tmp_path / "home")
    assert landed(entries) == 2_000
    assert "`z`" in said(entries)


def test_a_category_that_comes_is_found(tmp_path: Path, learner: Any) -> None:
    frame = changed(stream(20), 10, pl.lit("new").alias("kind"))
    entries = lived(framed(frame), learner, tmp_path)
    assert landed(entries) == frame.height
    assert "`new`" in said(entries)


def test_whole_numbers_that_become_fractions_are_widened(tmp_path: Path, learner: Any) -> None:
    frame = stream(20).with_columns((pl.col("x") * 10).round().alias("x"))
    early, late = halves(frame)
    source = files(tmp_path / "rows", early.with_columns(pl.col("x").cast(pl.Int64)), late)
    entries = lived(source, learner, tmp_path / "home")
    assert landed(entries) == frame.height
    assert of(entries, Promoted)


def test_numbers_that_become_text_are_told(tmp_path: Path, learner: Any) -> None:
    early, late = halves(stream(20))
    text = late.with_columns(pl.lit("broken").alias("x"))
    source = files(tmp_path / "rows", early, text)
    try:
        heard = said(lived(source, learner, tmp_path / "home"))
    except KeepfitError as error:
        heard = f"{error}"
    assert "`x`" in heard


# Times and ids ---------------------------------------------------------------------------


def test_a_clock_that_goes_back_loses_nothing(tmp_path: Path, learner: Any) -> None:
    early, late = halves(stream(20))
    folder = tmp_path / "rows"
    source = files(folder, late)
    first = lived(source, learner, tmp_path / "home")
    early.write_parquet(folder / "older.parquet")
    both = lived(source, learner, tmp_path / "home")
    assert landed(first) == late.height
    assert landed(both) == early.height + late.height


@pytest.mark.parametrize(
    "clock",
    [
        pl.col("time").dt.replace_time_zone(None),
        pl.col("time").dt.convert_time_zone("America/New_York"),
        pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
        pl.col("time").dt.cast_time_unit("ns"),
        pl.col("time").dt.cast_time_unit("ms"),
    ],
    ids=["without a zone", "New York", "text", "nanoseconds", "milliseconds"],
)
def test_all_clocks_tell_the_same_time(tmp_path: Path, learner: Any, clock: pl.Expr) -> None:
    frame = stream(20)
    plain = lived(framed(frame), learner, tmp_path / "plain")
    entries = lived(framed(frame.with_columns(clock)), learner, tmp_path / "other")
    ends = [(arrived.from_, arrived.to, arrived.rows) for arrived in of(plain, Arrived)]
    assert [(one.from_, one.to, one.rows) for one in of(entries, Arrived)] == ends


def test_rows_without_a_time_or_an_id_are_told_and_left_out(tmp_path: Path, learner: Any) -> None:
    frame = stream(20)
    holes = frame.with_columns(
        pl.when(pl.col("id") % 100 == 7).then(None).otherwise(pl.col("time")).alias("time"),
        pl.when(pl.col("id") % 100 == 9).then(None).otherwise(pl.col("id")).alias("id"),
    )
    entries = lived(framed(holes), learner, tmp_path)
    assert landed(entries) == frame.height - 40
    assert "40 rows" in said(entries)


@pytest.mark.parametrize(
    "labels",
    [
        pl.when(pl.col("label") == 1).then(pl.lit("yes")).otherwise(pl.lit("no")),
        pl.col("label") == 1,
        pl.col("label").cast(pl.Float64),
        pl.col("label").cast(pl.UInt8),
    ],
    ids=["text", "boolean", "float", "small"],
)
def test_labels_of_any_type_train(tmp_path: Path, learner: Any, labels: pl.Expr) -> None:
    frame = stream(20).with_columns(labels.alias("label"))
    entries = lived(framed(frame), learner, tmp_path)
    assert of(entries, Promoted)
    assert not of(entries, TrainingFailed)


def test_ids_may_be_text(tmp_path: Path, learner: Any) -> None:
    frame = stream(20).with_columns(("row-" + pl.col("id").cast(pl.String)).alias("id"))
    entries = lived(framed(frame), learner, tmp_path)
    assert landed(entries) == frame.height
    assert of(entries, Promoted)


def test_the_same_rows_again_are_nothing_new(tmp_path: Path, learner: Any) -> None:
    frame = stream(20)
    source = files(tmp_path / "rows", frame, frame)
    entries = lived(source, learner, tmp_path / "home")
    assert landed(entries) == frame.height
    assert isinstance(entries[0].at, datetime)


# Files -----------------------------------------------------------------------------------


def test_a_file_still_being_written_is_told_and_read_when_it_is_whole(
    tmp_path: Path, learner: Any
) -> None:
    early, late = halves(stream(20))
    folder = tmp_path / "rows"
    source = files(folder, early, late)
    whole = (folder / "1.parquet").read_bytes()
    (folder / "1.parquet").write_bytes(whole[: len(whole) // 2])
    first = lived(source, learner, tmp_path / "home")
    assert landed(first) == early.height
    assert "1.parquet cannot be read" in said(first)
    (folder / "1.parquet").write_bytes(whole)
    assert landed(lived(source, learner, tmp_path / "home")) == early.height + late.height


def test_a_csv_that_grows_brings_its_new_lines_once(tmp_path: Path, learner: Any) -> None:
    frame = stream(20)
    early, late = halves(frame)
    path = tmp_path / "rows.csv"
    early.write_csv(path)
    half_a_line = path.read_bytes() + b"99999,2024-01-"
    path.write_bytes(half_a_line)
    source = sources.Csv(path, id="id", time="time", label="label")
    assert landed(lived(source, learner, tmp_path / "home")) == early.height
    frame.write_csv(path)
    assert landed(lived(source, learner, tmp_path / "home")) == early.height + late.height


# The same id twice ----------------------------------------------------------------------


def test_an_id_that_comes_twice_with_other_features_is_told_and_the_last_counts(
    tmp_path: Path,
) -> None:
    frame = stream(20)
    again = frame.slice(1_500, 40)
    doubled = pl.concat([frame, again.with_columns(pl.col("x") + 1), frame.slice(300, 50)])
    entries = lived(framed(doubled), LEARNERS["lightgbm"], tmp_path)
    assert landed(entries) == 2_000
    assert sum(arrived.repeated for arrived in of(entries, Arrived)) == 40
    assert said(entries).count("40 rows were left out: another has their id and other values") == 1
