"""Which of the challengers that passed their gate is promoted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from keepfit.facts import Judged, Verdict
from keepfit.gates.paired import Measured

if TYPE_CHECKING:
    from keepfit.protocols import Gate
    from keepfit.standing import Standings

TELLING = 30
"""Rows of a holdout from which on they tell between windows by themselves."""

NEAR = 0.125
"""The share of the width of its bounds, about half a standard error, by which a gain may be smaller to
be as good."""


def best(
    standings: Standings,
    passed: Sequence[Judged],
    learnt: Mapping[str, int],
    judges: Sequence[Gate] = (),
) -> Judged:
    """Return which of those that passed is promoted: the preferred recipe's, or the best.

    A leader has shown on many batches what a few rows of a holdout cannot show; where they show
    all the same that another does better, it is that one. The window of one step goes last, unless
    it leads or they show it by far. Before all goes one that learnt a new class: others were not
    asked about its rows.

    Where none is preferred and the holdout is small, of the windows that reach as much as the best,
    give or take its error, it is the longest: it has seen most of what may come next (the rule of one
    standard error, of half a one here: Breiman, Friedman, Olshen and Stone 1984).

    Parameters
    ----------
    standings
        What is known of the recipes.
    passed
        The verdicts on them, in order.
    learnt
        How many classes each learnt that the champion does not know, by its name.
    judges
        The gates that gave the verdicts.
    """
    versions, sign = standings.state.versions, standings.sign
    preferred, brief = standings.preferred(), standings.beside.brief

    def value(one: Judged) -> float:
        return -math.inf if one.value is None else sign * one.value

    def worth(one: Judged) -> tuple[int, bool, bool, float, bool]:
        version = versions[one.version]
        leads = version.challenger in preferred
        proven = leads or version.challenger not in brief
        # As good on the rows, say where none is of a rare class: what was trained, no update.
        return learnt[one.version], leads, proven, value(one), not version.updated

    def seen(one: Judged) -> int:
        """Return how many rows a window was trained on; none for what goes on from the champion."""
        version = versions[one.version]
        return version.snapshot.rows if version.start == "scratch" else 0

    first = max(passed, key=worth)
    gains = {
        one.name for one in judges if isinstance(one, Measured) and one.paired and one.slice is None
    }
    alike = [one for one in passed if learnt[one.version] == learnt[first.version]]
    shown = (one for one in alike if _above(one, first, gains, far=not worth(one)[2]))
    found = max(shown, key=value, default=first)
    if preferred or found.rows >= TELLING or not seen(found):
        return found
    near = (one for one in alike if value(found) - value(one) <= _error(one, found, gains))
    # Found itself is among them, but where the metric is not defined on the rows.
    return max(near, key=lambda one: (seen(one), one is found), default=found)


def _error(one: Judged, other: Judged, gains: Collection[str]) -> float:
    """Return by how much the values of two on the same holdout may differ by chance."""
    widths = [
        verdict.high - verdict.low
        for judged in (one, other)
        for verdict in judged.verdicts
        if verdict.gate in gains and verdict.low is not None and verdict.high is not None
    ]
    return NEAR * max(widths, default=0.0)


def _above(one: Judged, other: Judged, gains: Collection[str], *, far: bool) -> bool:
    """Return whether one gained more than another, so that their bounds on the same rows lie apart."""
    if (one.rows, one.champion) != (other.rows, other.champion):
        return False
    theirs = {verdict.gate: verdict for verdict in other.verdicts if verdict.gate in gains}
    return any(
        verdict.gate in theirs and _apart(verdict, theirs[verdict.gate], far=far)
        for verdict in one.verdicts
    )


def _apart(one: Verdict, other: Verdict, *, far: bool) -> bool:
    """Return whether the bounds of one lie above those of another; ``far``: by half of how wide they are."""
    if one.low is None or other.high is None:
        return False
    if not far:
        return one.low > other.high
    if one.high is None or other.low is None:
        return False
    return one.low - other.high > max(one.high - one.low, other.high - other.low) / 2
