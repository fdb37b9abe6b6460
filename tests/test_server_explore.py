"""A server that explores says of each row whether it passes, and writes down what chance said."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.metrics import roc_auc_score

from keepfit import Explore
from keepfit.explore import BY_ITSELF, Draws, Passage, secret_of
from keepfit.facts import Arrived, Scored
from keepfit.journal import ANSWER, PASSAGE, Journal, New
from keepfit.landing import _whole
from keepfit.server.shapes import Answer
from tests.served import ROW_, Served, opened
from tests.servers import DAY, World, labels, micro

EXPLORE = Explore(0.3, passes_below=0.4)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from opened(
        tmp_path_factory.mktemp("exploring"),
        LGBMClassifier(n_estimators=5, verbosity=-1),
        explore=EXPLORE,
    )


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{**ROW_, "id": first + i, "x": (i % 9 - 4) / 2} for i in range(count)]


def draws_of(served: Served) -> Draws:
    return Draws(EXPLORE, "churn", secret_of(served.world.made.home))


def check(served: Served, told: list[dict[str, Any]]) -> None:
    """Assert that answers say what the draws of this home say, and that the journal does too."""
    draws = draws_of(served)
    kept = {one.id: one for one in served.kept(PASSAGE)}
    answers = {one.id: one for one in served.kept(ANSWER)}
    for one in told:
        passage = draws.of(one["id"], one["probability"])
        said = one["pass"], one["explored"], one["pass_probability"]
        assert said == tuple(passage)
        if one["probability"] < 0.4:
            assert one["id"] not in kept
            continue
        entry = kept[one["id"]]
        assert entry.scores == 0.3
        assert entry.body == (b"1" if passage.passed else b"0")
        assert entry.at == answers[one["id"]].at


def test_each_answer_says_whether_its_row_passes(served: Served) -> None:
    status, told = served.ask("POST", "/predict/churn", rows(50_000, 100))
    assert status == 200
    check(served, told["predictions"])
    said = {(one["pass"], one["explored"]) for one in told["predictions"]}
    assert said == {(True, False), (True, True), (False, False)}


def test_one_row_is_answered_as_several_are(served: Served) -> None:
    asked = rows(51_000, 30)
    told = [served.ask("POST", "/predict/churn", row)[1] for row in asked]
    check(served, told)
    again = served.ask("POST", "/predict/churn", asked)[1]["predictions"]
    assert again == [{k: v for k, v in one.items() if k != "version"} for one in told]


def test_rows_of_a_known_form_are_explored_too(served: Served) -> None:
    for first in (52_000, 52_100):
        check(served, served.ask("POST", "/predict/churn", rows(first, 20))[1]["predictions"])
    named = {"names": list(rows(0, 1)[0]), "rows": [list(r.values()) for r in rows(52_200, 20)]}
    for _ in range(2):
        check(served, served.ask("POST", "/predict/churn", named)[1]["predictions"])


def test_a_row_without_an_id_is_drawn_by_the_one_it_is_given(served: Served) -> None:
    bare = [{k: v for k, v in row.items() if k != "id"} for row in rows(0, 30)]
    check(served, served.ask("POST", "/predict/churn", bare)[1]["predictions"])


def test_the_open_inference_protocol_has_tensors_of_it(served: Served) -> None:
    asked = rows(53_000, 12)
    tensors = [
        {"name": "x", "datatype": "FP64", "shape": [12], "data": [row["x"] for row in asked]},
        {"name": "y", "datatype": "FP64", "shape": [12], "data": [row["y"] for row in asked]},
        {"name": "kind", "datatype": "BYTES", "shape": [12], "data": ["a"] * 12},
    ]
    status, told = served.ask("POST", "/v2/models/churn/infer", {"inputs": tensors})
    assert status == 200
    found = {one["name"]: one["data"] for one in told["outputs"]}
    draws = draws_of(served)
    expected = [draws.of(*pair) for pair in zip(found["id"], found["probability"], strict=True)]
    assert found["pass"] == [one.passed for one in expected]
    assert found["explored"] == [one.explored for one in expected]
    assert found["pass_probability"] == [one.probability for one in expected]
    listed = served.ask("GET", "/v2/models/churn")[1]["outputs"]
    assert [one["name"] for one in listed] == [one["name"] for one in told["outputs"]]


def test_a_client_reads_it(served: Served) -> None:
    from keepfit import Client

    with Client(f"http://127.0.0.1:{served.port}", pipeline="churn") as client:
        found = client.predict(rows(54_000, 40))
    assert {type(one) for one in found} == {Answer}
    assert {one.passes for one in found} == {True, False}
    assert {one.pass_probability for one in found} == {0.3, 1.0}


def test_clients_cannot_say_so_themselves(served: Served) -> None:
    for name in ("_propensity", "_passed", "_weight"):
        status, told = served.ask("POST", "/predict/churn", {**ROW_, name: 1})
        assert status == 422
        assert "keepfit's own" in told["error"]["message"]


def test_a_server_that_was_not_asked_to_explore_says_nothing_of_it(tmp_path: Path) -> None:
    made = opened(tmp_path, LGBMClassifier(n_estimators=5, verbosity=-1))
    served = next(made)
    told = served.ask("POST", "/predict/churn", ROW_)[1]
    assert set(told) == {"id", "prediction", "probability", "version"}
    assert served.kept(PASSAGE) == []
    assert not (served.world.made.home / "secret").exists()
    assert list(made) == []


# Into the lake ----------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, explore=EXPLORE)
    world.steps()
    return world


def served_into(world: World, served: Served, first: int) -> dict[int, Passage]:
    """Write into a home what the server wrote of 60 rows; return what it said of each."""
    told = served.ask("POST", "/predict/churn", rows(first, 60))[1]["predictions"]
    at, ids = micro(world.clock.now()), range(first, first + 60)
    kept = [one for one in served.kept() if one.id in ids]
    world.write([New(one.kind, one.id, at, one.version, one.scores, one.body) for one in kept])  # type: ignore[arg-type]
    members = ("pass", "explored", "pass_probability")
    return {one["id"]: Passage(*(one[name] for name in members)) for one in told}


def test_what_chance_said_lands_with_the_row_and_its_answer(served: Served, world: World) -> None:
    before = world.lake()
    told = served_into(world, served, 60_000)
    world.clock.sleep(timedelta(hours=1))
    (arrived,) = [one for one in world.steps() if isinstance(one, Arrived)]
    kept = world.loop.memory.lake.scored(arrived.batch, world.clock.now())
    expected = [
        (None, None) if one == BY_ITSELF else (one.probability, one.passed)
        for one in map(told.get, kept.get_column("_id"))
        if one is not None
    ]
    assert kept.select("_propensity", "_passed").rows() == expected
    drawn = [passed for _, passed in expected if passed is not None]
    assert (arrived.drawn, arrived.explored) == (len(drawn), sum(drawn))
    status = world.made.status()
    assert (status.drawn, status.explored) == (len(drawn), sum(drawn))
    assert f"% of {len(drawn)} rows to be stopped" in repr(status)
    # An older home had no such columns: its rows have them now, without a value.
    assert "_passed" not in before.columns
    old = world.loop.memory.lake.batch(1)
    assert old.get_column("_passed").null_count() == old.height


def test_labels_of_rows_that_were_stopped_count_for_nothing(served: Served, world: World) -> None:
    told = served_into(world, served, 61_000)
    world.steps()
    world.write(labels(list(told), 1, world.clock.now() + DAY))
    world.clock.sleep(2 * DAY)
    world.steps()
    known = world.loop.labelled(world.clock.now()).filter(pl.col("_id") >= 61_000)
    through = {id_ for id_, one in told.items() if one.passed}
    assert set(known.get_column("_id")) == through
    assert 0 < len(through) < 60


def test_a_batch_is_scored_once_all_that_passed_have_their_labels(
    served: Served, world: World
) -> None:
    told = served_into(world, served, 62_000)
    world.steps()
    through = [id_ for id_, one in told.items() if one.passed]
    halves = through[::2], through[1::2]
    world.write(
        [*labels(halves[0], 1, world.clock.now()), *labels(halves[1], 0, world.clock.now())]
    )
    world.clock.sleep(DAY)
    scored = [one for one in world.steps() if isinstance(one, Scored) and one.n]
    assert [one.n for one in scored] == [len(through)]
    kept = world.loop.memory.lake.scored(scored[0].batch, world.clock.now())
    seen = kept.filter(pl.col("_id").is_in(through))
    weight = (1 / seen.get_column("_propensity").fill_null(1.0)).to_numpy()
    known, said = seen.get_column("_label").to_numpy(), seen.get_column("_score").to_numpy()
    assert scored[0].value == pytest.approx(roc_auc_score(known, said, sample_weight=weight))


def test_a_source_that_tells_of_served_rows_again_takes_nothing_away(
    served: Served, world: World
) -> None:
    served_into(world, served, 63_000)
    world.steps()
    before = world.lake().filter(pl.col("_id") >= 63_000).sort("_id")
    with contextlib.closing(Journal(world.path)) as journal:
        journal.trim(journal.last(), before=micro(world.clock.now() + 9 * DAY))
    own = pl.col("_id").alias("id"), pl.col("_time").alias("time")
    again = before.select(*own, "x", "y", "kind", label=pl.lit(1))
    again.write_parquet(world.folder / "later.parquet")
    world.clock.sleep(DAY)
    (arrived,) = [one for one in world.steps() if isinstance(one, Arrived)]
    assert (arrived.rows, arrived.labels, arrived.duplicates) == (0, 60, 60)
    after = world.lake().filter(pl.col("_id") >= 63_000).sort("_id")
    assert after.select("_id", "_passed").equals(before.select("_id", "_passed"))


def test_a_request_is_never_cut_in_two() -> None:
    class Entry:
        def __init__(self, at: int) -> None:
            self.at = at

    moments = [1, 1, 2, 3, 3, 3, 4]
    entries: Any = [Entry(at) for at in moments]
    taken = [[one.at for one in _whole(entries, most)] for most in range(1, 8)]
    assert taken[2:] == [[1, 1, 2], [1, 1, 2], [1, 1, 2], moments[:6], moments]
    # One that is longer than all that may be taken is taken in parts: nothing would be else.
    assert taken[0] == [1]
    assert all(a <= b for a, b in itertools.pairwise(map(len, taken)))
