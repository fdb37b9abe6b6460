"""The gate that a person answers: what it says when, what it takes, and what it asks of rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keepfit import gates
from keepfit.clock import utc
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Approved, Declined
from keepfit.testing.gates import compared

NOW = utc("2024-03-01")
UNTIL = utc("2024-03-15 12:00")
YES = Approved(version="v2", reason="looks right", by="ada")
NO = Declined(version="v2", reason="not now", by="ada")


@pytest.mark.parametrize(
    ("said", "after", "answer", "reason"),
    [
        (None, 0, Answer.NOT_ENOUGH, "passed the rest; a person decides by 2024-03-15"),
        (None, 14.4, Answer.NOT_ENOUGH, "passed the rest; a person decides by 2024-03-15"),
        (None, 14.5, Answer.REFUSE, "nobody approved it by 2024-03-15 12:00"),
        (YES, 0, Answer.PROMOTE, "approved by ada: looks right"),
        (YES, 90, Answer.PROMOTE, "approved by ada: looks right"),
        (NO, 0, Answer.REFUSE, "refused by ada: not now"),
        (NO, 90, Answer.REFUSE, "refused by ada: not now"),
    ],
)
def test_it_says_what_a_person_said_and_what_silence_means(
    said: Any, after: float, answer: Answer, reason: str
) -> None:
    found = gates.Approval().heard(said, until=UNTIL, at=NOW + timedelta(days=after))
    assert (found.answer, found.reason, found.gate) == (answer, reason, "Approved by a person")


def test_no_figures_stand_in_for_a_person() -> None:
    assert gates.Approval().judge(compared(rows=2_000)).answer == Answer.NOT_ENOUGH
    assert gates.Approval().assumed().answer == Answer.PROMOTE


@pytest.mark.parametrize("given", [{"remind": "0d"}, {"expires": "0s"}, {"expires": "soon"}])
def test_lengths_are_above_zero(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        gates.Approval(**given)


def test_one_person_is_asked_once() -> None:
    with pytest.raises(ConfigError, match="one Approval at most"):
        gates.resolve([gates.Approval(), gates.NoWorse(), gates.Approval(expires="1d")])
    with pytest.raises(ConfigError, match="expected a gate, got"):
        gates.resolve([gates.Approval])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ([gates.NoWorse(holdout=0.1), gates.Approval()], 0.1),
        ([gates.Approval(), gates.NoWorse(holdout="3d")], timedelta(days=3)),
        ([gates.Approval()], 0.2),
    ],
    ids=["share", "time", "alone"],
)
def test_it_needs_no_rows_beside_other_gates(given: list[Any], rows: Any) -> None:
    assert gates.holdout(given) == rows


def test_it_is_not_asked_about_live_rows() -> None:
    assert not gates.Approval().live
    assert gates.harm([gates.Approval()], compared(rows=2_000)).answer == Answer.NOT_ENOUGH
