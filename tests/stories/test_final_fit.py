"""The last fit of a winner, on the rows that judged it: it serves unless it went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.spoiling import spoil_last_fits
from tests.worlds import pipeline, stream

from keepfit import Ledger, gates, triggers
from keepfit.facts import Promoted, TrainingFailed, TrainingStarted

pytestmark = pytest.mark.story


def played(home: Path) -> dict[type, list[Any]]:
    """Return the facts of a life in which every winner learns its holdout, by their kind."""
    made = pipeline(
        stream(40),
        home,
        trigger=triggers.Every("10d"),
        final_fit="all",
        gate=[gates.NoWorse(within=0.05)],
    )
    made.backtest(compare=False)
    kinds = (Promoted, TrainingFailed, TrainingStarted)
    found: dict[type, list[Any]] = {kind: [] for kind in kinds}
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        for entry in ledger.facts("churn"):
            found.get(type(entry.fact), []).append(entry.fact)
    return found


def test_a_final_fit_on_shuffled_labels_does_not_serve_and_its_winner_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_last_fits(monkeypatch)
    found = played(tmp_path)
    finals = {one.version: one.final_of for one in found[TrainingStarted] if one.final_of}
    assert len(finals) > 1
    reasons = {one.version: one.reason for one in found[Promoted]}
    failed = {one.version: one for one in found[TrainingFailed]}
    retried = {one.retry_of: one.version for one in found[TrainingStarted] if one.retry_of}
    for final, winner in finals.items():
        assert final not in reasons
        assert failed[final].reason == "not learnt"
        assert f"by {winner}, on" in failed[final].message
        if final in retried:
            said = f"as it passed; its final fit {retried[final]} failed"
            assert reasons[winner] == said


def test_the_winner_is_fitted_on_its_holdout_too_when_asked(tmp_path: Path) -> None:
    found = played(tmp_path)
    finals = [one for one in found[TrainingStarted] if one.final_of]
    assert finals
    started = {one.version: one for one in found[TrainingStarted]}
    promoted = [one.version for one in found[Promoted]]
    for final in finals:
        assert final.snapshot.to > started[final.final_of].snapshot.to
        assert final.version in promoted
        assert final.final_of not in promoted
