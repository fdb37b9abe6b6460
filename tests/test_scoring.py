"""The scorer: models at hand, and those that are read again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import scoring
from keepfit.artifacts import Artifacts
from keepfit.batch import ARRIVED_AT, ID, LABEL, SCORE
from keepfit.errors import ArtifactCorrupt
from keepfit.facts import Arrived
from keepfit.learners.labels import codes
from keepfit.registry import State
from keepfit.scoring import Scorer
from tests.worlds import DAY, START


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return Scorer(Artifacts(tmp_path), None)


def damage(scorer: Scorer, digest: str) -> None:
    path = scorer.artifacts.path(digest)
    assert path is not None
    path.write_bytes(b"damaged")


def test_the_bytes_of_the_newest_models_are_at_hand_and_older_ones_are_read(scorer: Scorer) -> None:
    kept = [scorer.keep(f"model {number}".encode()) for number in range(scoring.HELD + 1)]
    for digest in kept:
        damage(scorer, digest)
    assert [scorer.content(digest) for digest in kept[1:]] == [
        f"model {number}".encode() for number in range(1, scoring.HELD + 1)
    ]
    with pytest.raises(ArtifactCorrupt, match="is damaged"):
        scorer.content(kept[0])


def test_a_large_model_is_read_and_checked_each_time(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "LARGE", 10)
    small, large = scorer.keep(b"0123456789"), scorer.keep(b"0123456789a")
    assert scorer.artifacts.get(large) == scorer.content(large) == b"0123456789a"
    for digest in (small, large):
        damage(scorer, digest)
    assert scorer.content(small) == b"0123456789"
    with pytest.raises(ArtifactCorrupt, match="is damaged"):
        scorer.content(large)


def test_what_is_said_of_labelled_rows_alone_is_not_taken_for_what_was_said_of_all(
    tmp_path: Path,
) -> None:
    def predict(rows: pl.DataFrame) -> np.ndarray:
        if rows.get_column(ID).is_in([3]).any():
            raise ValueError("an odd row")
        return rows.get_column(ID).to_numpy() / 10

    scorer = Scorer(Artifacts(tmp_path), "mae", shared=True)
    scorer._models["a"] = SimpleNamespace(  # type: ignore[assignment]
        classes=(), task="regression", codes=lambda labels: labels.to_numpy(), predict=predict
    )
    version: Any = SimpleNamespace(name="v1", artifact="a")
    rows = pl.DataFrame({ID: range(5)})
    rollout: Any = SimpleNamespace(fact=SimpleNamespace(rollout="r"))
    assert scorer.challenged(rollout, version, 7, rows)[1].tolist() == [True] * 3 + [False, True]
    labels = pl.Series(LABEL, [0.1, 0.2, 0.4, 0.4])
    value = scorer.reached(version, 7, rows.filter(pl.col(ID) > 0), labels, ())
    # All but the odd row, which is taken for the lower end.
    assert value == pytest.approx((0.4 - np.quantile(labels.to_numpy(), 0.01)) / 4)


# Versions of other classes in one batch -----------------------------------------------------


def answering(*classes: str, says: Any) -> Any:
    return SimpleNamespace(
        classes=classes,
        task="binary" if len(classes) == 2 else "multiclass",
        codes=lambda labels: codes(labels, classes),
        predict=lambda rows: np.array([says] * rows.height),
    )


@pytest.mark.parametrize("first", [1, 3])
def test_a_batch_that_a_version_of_two_classes_and_one_of_three_answered_is_scored(
    scorer: Scorer, first: int
) -> None:
    scorer.spec = "accuracy"
    scorer._models["a"] = answering("b", "c", says=0.9)
    scorer._models["b"] = answering("a", "b", "c", says=[0.1, 0.3, 0.6])
    state = State(champion="v2", reigns=[(START, "v1"), (START + first * DAY, "v2")])
    for name, artifact in (("v1", "a"), ("v2", "b")):
        state.versions[name] = SimpleNamespace(name=name, artifact=artifact)  # type: ignore[assignment]
    times = [START + day * DAY for day in range(4)]
    said = scorer.predict(state, 1, pl.DataFrame({ID: range(4), ARRIVED_AT: times}))
    assert said.get_column(SCORE).list.len().to_list() == [2] * first + [3] * (4 - first)
    rows = said.with_columns(pl.Series(LABEL, ["c", "c", "b", "c"]))
    scored = scorer.score(state, Arrived(batch=1, rows=4, labels=4, cursor="", digest=""), rows)
    # Both say c, which has another place among the classes of whichever answered more rows.
    assert scored.version == ("v2" if first == 1 else "v1")
    assert (scored.n, scored.value) == (4, 0.75)
