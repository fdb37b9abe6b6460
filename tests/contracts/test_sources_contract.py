"""Every built-in source keeps the contract of its door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.worlds import DAY, START, stream

from keepfit import sources
from keepfit.batch import Batch, Roles
from keepfit.protocols import Source
from keepfit.testing import check_source

ROLES = {"id": "id", "time": "time", "label": "label"}
DAYS = 40
Make = Callable[[], Source]


def frame() -> pl.DataFrame:
    """Return rows of which some have no label, and some come twice."""
    rows = stream(DAYS, 10).with_columns(
        pl.when(pl.col("id") % 5 == 0).then(None).otherwise(pl.col("label")).alias("label"),
        (pl.col("time") + DAY).alias("known"),
    )
    return pl.concat([rows, rows.head(7)])


def parquet(folder: Path) -> Make:
    rows = frame().sample(fraction=1.0, shuffle=True, seed=1)
    for number, part in enumerate(rows.iter_slices(150)):
        part.write_parquet(folder / f"{number}.parquet")
    return lambda: sources.Parquet(folder, **ROLES, label_delay="2d")


def csv(folder: Path) -> Make:
    for number, part in enumerate(frame().iter_slices(150)):
        part.write_csv(folder / f"{number}.csv", separator=";")
    return lambda: sources.Csv(f"{folder}/*.csv", **ROLES, separator=";")


def with_labels(folder: Path) -> Make:
    rows = frame()
    rows.drop("label", "known").write_parquet(folder / "rows.parquet")
    answers = rows.drop_nulls("label").select("id", "label", "known")
    return lambda: sources.WithLabels(
        sources.Parquet(folder / "rows.parquet", id="id", time="time"),
        sources.Frame(answers, id="id", time="known", label="label"),
    )


def framed(table: Any, **roles: str) -> Callable[[Path], Make]:
    return lambda _: lambda: sources.Frame(table, **roles)


def images(folder: Path) -> Make:
    """Return a source of images, of which each was taken at the time in its name."""
    Image = pytest.importorskip("PIL.Image")
    for place in range(DAYS):
        at = START + place * DAY
        (folder / "ab"[place % 2]).mkdir(exist_ok=True)
        shade = Image.new("L", (3, 2), color=5 * place)
        shade.save(folder / "ab"[place % 2] / f"{at:%Y%m%d}.png")
    return lambda: sources.Folder(folder, label="kind", size=(2, 2), mode="L", time="%Y%m%d")


SOURCES: dict[str, Callable[[Path], Make]] = {
    "parquet": parquet,
    "csv": csv,
    "polars": framed(frame(), **ROLES),
    "pandas": framed(frame().to_pandas(), **ROLES),
    "arrow": framed(frame().to_arrow(), **ROLES),
    "images": images,
    "with labels": with_labels,
    "known at": framed(frame(), **ROLES, known_at="known"),
    "without ids": framed(frame().drop("id"), time="time", label="label"),
}


def test_every_source_that_is_exported_is_held_to_the_contract(tmp_path: Path) -> None:
    held = {type(given(tmp_path)()).__name__ for given in SOURCES.values()}
    assert held == set(sources.__all__)


@pytest.mark.parametrize("every", ["1d", "7d"])
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_keeps_its_contract(tmp_path: Path, name: str, every: str) -> None:
    check_source(SOURCES[name](tmp_path), every=every, now=START + (DAYS + 5) * DAY)


class Broken:
    """A source that breaks one promise, around one that keeps them all."""

    def __init__(self, promise: str) -> None:
        self.promise = promise
        self.inner = sources.Frame(frame(), **ROLES)
        self.roles: Roles = self.inner.roles

    def history(self) -> Batch:
        """Return all rows."""
        return self.inner.history()

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return the rows of a window, with a fault."""
        batch = self.inner.read(cursor, now=now, every=every)
        if batch.empty:
            return batch
        faults: dict[str, dict[str, Any]] = {
            "loses rows": {"rows": batch.rows.head(batch.rows.height - 1)},
            "doubles rows": {"rows": pl.concat([batch.rows, batch.rows.head(1)])},
            "disorders rows": {"rows": batch.rows.reverse()},
            "forgets where it is": {"cursor": cursor or batch.cursor},
            "goes back": {"watermark": START - (batch.watermark - START)},
            "says nothing waits": {"backlog": False},
        }
        return replace(batch, **faults[self.promise])


@pytest.mark.parametrize(
    "promise",
    [
        "loses rows",
        "doubles rows",
        "disorders rows",
        "forgets where it is",
        "goes back",
        "says nothing waits",
    ],
)
def test_a_source_that_breaks_a_promise_is_found_out(promise: str) -> None:
    with pytest.raises(AssertionError):
        check_source(lambda: Broken(promise), every="1d", now=START + (DAYS + 5) * DAY)
