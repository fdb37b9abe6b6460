"""Why a recipe waits: nothing to tell apart, few new rows, or tries that have cost enough."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keepfit.batch import LABEL
from keepfit.beside import ENOUGH, LATELY, RECENT, TELLING
from keepfit.registry import State, Version
from keepfit.registry.level import beneath

if TYPE_CHECKING:
    import polars as pl

FEW = 0.06
"""New rows beside the leader's own, below which an update waits for the next batch, and no longer:
one step of a window of twenty, less the holdout, is fewer; one of five is more."""

DULL = 1.0
"""Standard deviations between batches by which the newest one must be worse than those lately, or
the champion have been better at its gate than the one before, for an update not to wait; and the mean
of the newest ones worse, for the leader to wait no longer than while nothing is known."""


AHEAD = 2
"""Trainings of the leader that what never served may cost beyond what did: on a stream that changes all
the time the window of one step is found by trying it again and again."""


def told(share: float, wanted: float, whose: str = "its rows") -> str:
    """Return that too small a share of rows is new.

    Examples
    --------
    >>> told(0.497, 0.5)
    '49% of its rows are new, 50% asked for'
    """
    # Rounded it would read as if it were enough.
    return f"{math.floor(100 * share + 1e-9)}% of {whose} are new, {wanted:.0%} asked for"


def alike(rows: pl.DataFrame) -> str:
    """Return that rows have nothing to tell apart, if so: their training would fail."""
    labels = rows.get_column(LABEL)
    several = labels.head(64).n_unique() > 1 or labels.n_unique() > 1  # mostly a few tell
    return "" if several else "no two of its labels differ"


def few(state: State, sign: float, new: int, many: int) -> str:
    """Return why an update with so many ``new`` rows, beside the leader's, waits, if it does; else ``""``.

    ``sign`` is 1 where the greater value of the metric is the better one, else -1.
    """
    champion = state.versions[state.champion or ""]
    if new >= FEW * many or state.batch - champion.snapshot.batch > 1:
        return ""
    values = [sign * value for _, value in state.realised[-RECENT:]]
    if len(values) <= ENOUGH or beneath(values[-1], values[:-1]) > DULL:
        return ""
    gained, shown = _gained(state, sign, champion)
    now = beneath(values[-1], values)
    if shown or beneath(values[-1] - gained, values) - now > DULL:
        return ""
    return f"{new:,} new rows are few beside {many:,}, and no worse answered than others lately"


def worse(state: State, sign: float) -> bool:
    """Return whether the newest of small batches together were answered worse than those before them.

    Updates that learn few rows may go astray; of batches with many that has not been seen. ``sign``
    is 1 where the greater value of the metric is the better one, else -1.
    """
    if state.last_scored is not None and state.last_scored.n * LATELY >= TELLING:
        return False
    values = [sign * value for _, value in state.realised[-RECENT:]]
    newest, rest = values[-LATELY:], values[:-LATELY]
    return len(rest) > ENOUGH and beneath(math.fsum(newest) / LATELY, rest) > DULL


def spent(state: State, leader: Version | None, *, fell: int | None = None) -> bool:
    """Return whether trainings from scratch that never served took more rows than those that did.

    By more than some trainings of the leader, whose last one is given: None for one that never ran.
    Those that were trained at once when what serves ``fell`` with a batch do not count: long windows
    among them would forbid to try any, once a short one leads.
    """
    versions = [one for one in state.versions.values() if one.snapshot.batch != fell]
    winners = {one.final_of for one in versions if one.promoted_at is not None}
    every = (one for one in versions if one.start == "scratch" and one.state != "skipped")
    # A last fit is of the same training as what won its gate.
    looks = sum(
        -one.snapshot.rows if one.promoted_at or one.name in winners else one.snapshot.rows
        for one in every
        if one.final_of is None
    )
    return looks > (0 if leader is None else AHEAD * leader.snapshot.rows)


def _gained(state: State, sign: float, champion: Version) -> tuple[float, bool]:
    """Return by how much the champion was better at its gate than the last, and if it was shown."""
    judged = state.versions.get(champion.final_of or champion.name, champion).judged
    if judged is None or judged.value is None or judged.champion_value is None:
        return 0.0, False
    known = ((one.low, one.needs) for one in judged.verdicts)
    # A gain is held against nothing or against a loss, what else is measured against more.
    shown = any(low is not None and low > 0 >= (needs or 0.0) for low, needs in known)
    return sign * (judged.value - judged.champion_value), shown
