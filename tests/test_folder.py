"""Images in folders: their pixels, classes and times, and a network that learns them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfit import Challenger, Pipeline, executors, learners, sources, triggers
from keepfit.errors import ConfigError, ExtraMissing

Image = pytest.importorskip("PIL.Image")

NOW = datetime(2100, 1, 1, tzinfo=UTC)
EVER = timedelta(days=40_000)


def draw(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def read(source: Any) -> Any:
    return source.read(None, now=NOW, every=EVER)


def test_the_sub_folder_is_the_class_and_the_path_the_id(tmp_path: Path) -> None:
    draw(tmp_path / "cats" / "deep" / "20240102.png", np.full((4, 4), 255))
    draw(tmp_path / "dogs" / "20240101.png", np.zeros((4, 4)))
    batch = read(sources.Folder(tmp_path, label="kind", size=(2, 2), mode="L", time="%Y%m%d"))
    assert batch.rows["_id"].to_list() == ["dogs/20240101.png", "cats/deep/20240102.png"]
    assert batch.labels.sort("_id")["_label"].to_list() == ["cats", "dogs"]
    assert batch.rows["image"].to_list() == [[0.0] * 4, [1.0] * 4]
    assert set(batch.rows.columns) == {"_id", "_time", "_arrived_at", "image"}


def test_colours_come_before_rows_and_columns(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 3))
    pixels[0, 2, 0] = 255  # red, at the top right
    pixels[1, 0, 2] = 51  # some blue, at the bottom left
    draw(tmp_path / "a.png", pixels)
    batch = read(sources.Folder(tmp_path / "a.png", size=(3, 2)))
    image = np.array(batch.rows["image"][0]).reshape(3, 2, 3)
    assert image[0, 0, 2] == 1.0
    assert image[2, 1, 0] == pytest.approx(0.2)
    assert image.sum() == pytest.approx(1.2)


def test_a_grey_image_is_read_in_colour_and_the_other_way_round(tmp_path: Path) -> None:
    draw(tmp_path / "grey.png", np.full((2, 2), 128))
    draw(tmp_path / "red.png", np.full((2, 2, 3), (255, 0, 0)))
    both = read(sources.Folder(tmp_path, size=(2, 2))).rows["image"].list.len()
    assert both.to_list() == [12, 12]
    shades = read(sources.Folder(tmp_path, size=(2, 2), mode="L")).rows["image"].list.len()
    assert shades.to_list() == [4, 4]


@pytest.mark.parametrize(
    ("time", "name"),
    [
        ("%Y-%m-%d_%H%M", "cam3/IMG 2024-01-31_0930 (2).png"),
        ("%Y%m%d%H%M", "x99_202401310930.jpg"),
        ("%Y/%m/%d/%H.%M", "2024/01/31/09.30.png"),
    ],
    ids=["words", "digits", "folders"],
)
def test_a_time_is_found_in_the_name(tmp_path: Path, time: str, name: str) -> None:
    draw(tmp_path / name, np.zeros((2, 2)))
    batch = read(sources.Folder(tmp_path, time=time, size=(1, 1)))
    assert batch.rows["_time"].to_list() == [datetime(2024, 1, 31, 9, 30, tzinfo=UTC)]


def test_digits_that_are_no_date_are_told_and_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "20241399.png", np.zeros((2, 2)))
    draw(tmp_path / "20240131.png", np.zeros((2, 2)))
    batch = read(sources.Folder(tmp_path, time="%Y%m%d", size=(1, 1)))
    assert batch.rows["_id"].to_list() == ["20240131.png"]
    assert any("no time left out" in one.message for one in batch.findings)


def test_without_a_pattern_the_time_of_the_last_change_counts(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", np.zeros((2, 2)))
    at = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    os.utime(path, (at.timestamp(), at.timestamp()))
    assert read(sources.Folder(tmp_path, size=(1, 1))).rows["_time"].to_list() == [at]


def test_a_damaged_image_is_told_and_read_once_it_is_whole(tmp_path: Path) -> None:
    whole = draw(tmp_path / "b.png", np.zeros((2, 2))).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:20])
    source = sources.Folder(tmp_path, size=(1, 1))
    first = read(source)
    assert first.rows["_id"].to_list() == ["b.png"]
    assert any("a.png cannot be read" in one.message for one in first.findings)
    (tmp_path / "a.png").write_bytes(whole)
    later = source.read(first.cursor, now=NOW, every=EVER)
    assert later.rows["_id"].to_list() == ["a.png"]


def test_an_image_that_is_written_again_comes_again(tmp_path: Path) -> None:
    draw(tmp_path / "20240101.png", np.zeros((2, 2)))
    source = sources.Folder(tmp_path, size=(1, 1), mode="L", time="%Y%m%d")
    first = read(source)
    assert source.read(first.cursor, now=NOW, every=EVER).empty
    draw(tmp_path / "20240101.png", np.full((2, 2), 255))
    os.utime(tmp_path / "20240101.png", (1, 1))
    again = source.read(first.cursor, now=NOW, every=EVER)
    assert again.rows["_id"].to_list() == ["20240101.png"]
    assert again.rows["image"].to_list() == [[1.0]]


@pytest.mark.parametrize(
    "how",
    [
        {"size": (0, 4)},
        {"size": (4,)},
        {"mode": "CMYK"},
        {"time": "%A"},
        {"time": "%m%d"},
        {"label": "image"},
    ],
    ids=str,
)
def test_arguments_are_checked_at_once(how: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        sources.Folder("photos", **how)


def test_without_pillow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepfit.sources.folder.find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match="pillow"):
        sources.Folder("photos")


def test_a_folder_is_told_as_it_was_written() -> None:
    written = "Folder('photos', label='kind', size=(8, 8), mode='L')"
    assert repr(sources.Folder("photos", label="kind", size=(8, 8), mode="L")) == written


# From files to a model --------------------------------------------------------------------


def stripes(folder: Path, count: int) -> None:
    """Write images of stripes, lying and standing, at places of chance."""
    rng = np.random.default_rng(0)
    for place in range(count):
        pixels = rng.integers(0, 60, size=(8, 8))
        at = int(rng.integers(0, 8))
        kind = "lying" if place % 2 else "standing"
        if kind == "lying":
            pixels[at] = 250
        else:
            pixels[:, at] = 250
        day = datetime(2024, 1, 1, tzinfo=UTC) + place * timedelta(hours=1)
        draw(folder / kind / f"{day:%Y%m%d%H}.png", pixels)


def network(inputs: int, classes: int) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 64, classes),
    )


@pytest.mark.parametrize("apart", [False, True], ids=["sub-folders", "a table"])
def test_a_network_learns_images_from_their_folder(tmp_path: Path, apart: bool) -> None:
    pytest.importorskip("torch")
    photos = tmp_path / "photos"
    stripes(photos, 160)
    roles: dict[str, Any] = {"size": (8, 8), "mode": "L", "time": "%Y%m%d%H"}
    labels = None
    if apart:
        lines = [
            f"{p.relative_to(photos).as_posix()},{p.parent.name}" for p in photos.rglob("*.png")
        ]
        table = ["path,kind,told_at", *(f"{line},2024-01-01T00:00:00Z" for line in lines)]
        (tmp_path / "labels.csv").write_text("\n".join(table) + "\n")
        labels = sources.Csv(tmp_path / "labels.csv", id="path", time="told_at", label="kind")
    else:
        roles["label"] = "kind"
    pipeline = Pipeline(
        "stripes",
        sources.Folder(photos, **roles),
        learners.Torch(network, epochs=8, lr=0.01, batch_size=16),
        labels=labels,
        metric="accuracy",
        every="1d",
        trigger=triggers.Every("365d"),
        challengers=[Challenger()],
        gate=[],
        enough=120,
        home=tmp_path / "home",
        executor=executors.Inline(),
    )
    pipeline.run(once=True)
    loop = pipeline.loop()
    model = loop.scorer.model(loop.state.version("champion"))
    assert model.features == ("image",)
    fresh = tmp_path / "fresh"
    stripes(fresh, 40)
    seen = read(sources.Folder(fresh, **{**roles, "label": "kind"}))
    rows = seen.rows.join(seen.labels.select("_id", "_label"), on="_id")
    said = (model.predict(rows) > 0.5).astype(int)
    assert (said == model.codes(rows["_label"])).mean() > 0.9
    pipeline.close()
