"""Challenger and champion on what they may have been trained on: what is forgotten shows there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from keepfit import unknown
from keepfit.batch import TIME, spread
from keepfit.explore import Explore, weights
from keepfit.facts import PastScored
from keepfit.metrics import value_of
from keepfit.protocols import Past

if TYPE_CHECKING:
    import polars as pl

    from keepfit.scoring import Scorer

STRETCHES = 4
"""Stretches of the past on which a challenger is compared with the champion."""

PER_STRETCH = 1_000
"""Rows of a stretch that are asked at most, evenly spread, where a gate judges by them."""

TO_SHOW = 250
"""Rows of a stretch that are asked where nothing but the record tells of them."""


def stretches(
    scorer: Scorer,
    rows: pl.DataFrame,
    new: Any,
    old: Any,
    *,
    at_most: int = PER_STRETCH,
    explore: Explore | None = None,
) -> tuple[Past, ...]:
    """Return both models on stretches of labelled rows, oldest first; none of too few rows."""
    import numpy as np

    size = rows.height // STRETCHES
    if size < TO_SHOW:
        return ()
    places = [i * size + spread(size, at_most) for i in range(STRETCHES)]
    # Asked at once: a model takes little longer for four stretches than for one.
    asked = rows[np.concatenate(places)]
    times = asked.get_column(TIME)
    _, labels, ours, theirs = unknown.beside(scorer, new, old, asked)
    weighed = weights(asked, explore)
    found, first = [], 0
    for part in places:
        place, first = slice(first, first + part.size), first + part.size
        kept = slice(None) if new.task == "regression" else labels[place] >= 0
        found.append(
            Past(
                from_=times[place.start],
                to=times[place.stop - 1],
                labels=labels[place][kept],
                challenger=ours[place][kept],
                champion=theirs[place][kept],
                weights=None if weighed is None else weighed[place][kept],
            )
        )
    return tuple(found)


def scored_past(metric: Any, past: Past) -> PastScored:
    """Return how both models do on a stretch of the past."""
    ours = number(value_of(metric, past.labels, past.challenger, past.weights))
    theirs = number(value_of(metric, past.labels, past.champion, past.weights))
    sign = 1.0 if metric.greater_is_better else -1.0
    return PastScored(
        from_=past.from_,
        to=past.to,
        n=len(past.labels),
        value=ours,
        champion_value=theirs,
        gain=None if ours is None or theirs is None else number(sign * (ours - theirs)),
    )


def number(value: float) -> float | None:
    """Return a metric's value, None where it is not defined."""
    return value if math.isfinite(value) else None
