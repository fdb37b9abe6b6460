"""The scorer: models at hand, and those that are read again."""

from pathlib import Path

import pytest

from keepfit import scoring
from keepfit.artifacts import Artifacts
from keepfit.errors import ArtifactCorrupt
from keepfit.scoring import Scorer


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
