"""Gates on live rows: what a rollout shows, and what the champion shows once it was promoted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import replace

from msgspec.structs import replace as replaced

from keepfit.facts import Answer, Verdict
from keepfit.gates.fresher import Fresher
from keepfit.gates.paired import Measured, NoWorse
from keepfit.protocols import Comparison, Gate

WRONGLY = 0.05
"""The share of versions that are no worse than their gate minds, and are taken back all the same."""


FEWEST = 4
"""Effective blocks of time that are enough: what does great harm shows on few rows."""


def harm(gates: Sequence[Gate], comparison: Comparison, *, series: int = 1) -> Verdict:
    """Return whether a version is shown to do harm on live rows: refuse where it is.

    Each gate on the metric is asked with a level of its own, at which it errs on the other
    side: of versions that meet it at most 5 % are refused, over all looks, gates and
    ``series`` of looks together. Look number k spends 6 / (pi k)^2 of that, so that there is no
    last look. Where no gate is one on the metric, `NoWorse` stands in. The verdict is the worst.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from keepfit import metrics
    >>> labels = np.arange(400) % 2
    >>> right, wrong = np.where(labels == 1, 0.9, 0.1), np.where(labels == 1, 0.1, 0.9)
    >>> comparison = Comparison(
    ...     metric=metrics.get("accuracy", task="binary"), labels=labels, times=np.arange(400),
    ...     challenger=wrong, champion=right, rows=pl.DataFrame(),
    ... )
    >>> harm([], comparison).answer.value
    'refuse'
    """
    asked = [one for gate in gates if (one := _lenient(gate)) is not None] or [NoWorse()]
    share = WRONGLY / len(asked) / series * 6 / (math.pi * comparison.look) ** 2
    # A first look spends half of what its gate may.
    first = dataclasses.replace(comparison, look=1)
    blocks = [min(one.min_blocks, FEWEST) for one in asked]
    verdicts = [
        replace(one, level=1 - 2 * share, looks=2, min_blocks=least).judge(first)
        for one, least in zip(asked, blocks, strict=True)
    ]
    refused = [one for one in verdicts if one.answer == Answer.REFUSE]
    worst = refused[0] if refused else min(verdicts, key=_gain)
    if refused:
        return worst
    # That it is no worse is not for these looks to say: another level of proof is asked for that.
    reason = worst.reason.partition("; ")[0]
    return replaced(worst, answer=Answer.NOT_ENOUGH, reason=reason)


def _lenient(gate: Gate) -> Measured | None:
    if isinstance(gate, Fresher):
        return NoWorse(gate.within, slice=gate.slice)
    return gate if isinstance(gate, Measured) else None


def _gain(verdict: Verdict) -> float:
    return float("inf") if verdict.value is None else verdict.value
