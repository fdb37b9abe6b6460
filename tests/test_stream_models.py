"""The streams of the benchmark of policies: which rows a seed draws, and where batches end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmarks.stream_models import KEPT, Scale, stream_of, table_of

ROWS = 1_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "id": range(ROWS),
            "time": [start + timedelta(hours=i) for i in range(ROWS)],
            "x": np.arange(ROWS) / ROWS,
            "label": [i % 2 for i in range(ROWS)],
        }
    )
    frame.sample(fraction=1, shuffle=True, seed=0).write_parquet(tmp_path / "made.parquet")
    return tmp_path


def test_the_first_seed_keeps_all_rows_and_others_a_share_in_order_of_time(folder: Path) -> None:
    whole, *drawn = (stream_of("made", folder, seed) for seed in range(3))
    assert whole["id"].to_list() == list(range(ROWS))
    for one in drawn:
        assert one.height == round(KEPT * ROWS)
        assert one["time"].is_sorted()
        assert one["id"].is_unique().all()
    assert not drawn[0].equals(drawn[1])
    assert drawn[0].equals(stream_of("made", folder, 1))


def test_batches_share_what_a_seed_draws_evenly(folder: Path) -> None:
    rows, labels, cuts, _ = table_of("made", folder, 1, Scale(batches=40))
    assert rows.shape == (900, 1)
    assert (labels == (rows[:, 0] * ROWS).round() % 2).all()
    assert cuts[0] == 0
    assert cuts[-1] == 900
    assert set(np.diff(cuts)) <= {22, 23}
