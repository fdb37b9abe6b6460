"""What a server knows of the lake by its index alone: which rows it holds, and what ids are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from keepfit.server.landed import LandedIds
from tests.served import ROW_, Served
from tests.servers import World


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Return a server with ten days in its lake, of which nothing serves yet."""
    world = World(tmp_path)
    world.steps()
    with contextlib.closing(Served(world)) as found:
        yield found


def test_ids_and_their_kind_are_those_of_the_lake(served: Served, tmp_path: Path) -> None:
    landed = LandedIds(served.world.made.home, "churn")
    assert landed.kind() == "number"
    assert landed([5, 10**9, "5", "a"]) == {5}
    assert landed([]) == set()
    nothing = LandedIds(tmp_path / "elsewhere", "churn")
    assert (nothing.kind(), nothing([5])) == ("", set())


def test_texts_as_ids_are_told_as_such(tmp_path: Path) -> None:
    world = World(tmp_path)
    path = world.folder / "first.parquet"
    frame = pl.read_parquet(path).with_columns(pl.format("r{}", "id").alias("id"))
    frame.write_parquet(path)
    world.steps()
    landed = LandedIds(world.made.home, "churn")
    assert landed.kind() == "text"
    assert landed(["r5", "5"]) == {"r5"}


def test_before_anything_serves_an_id_of_another_kind_than_the_lakes_is_refused(
    served: Served,
) -> None:
    good = ROW_ | {"id": "10000", "label": 1}
    status, told = served.ask("POST", "/rows/churn", [good, ROW_ | {"id": "a1"}])
    assert (status, told["error"]["message"]) == (422, "expected a whole number as id, got 'a1'")
    assert served.ask("POST", "/rows/churn", good) == (200, {"accepted": 1, "ids": [10_000]})
    assert served.ask("POST", "/labels/churn", {"id": "a1", "label": 1})[0] == 422
    served.world.steps()
    assert LandedIds(served.world.made.home, "churn")([10_000]) == {10_000}
