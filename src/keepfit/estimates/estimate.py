"""What an estimate says: a value with its interval, and how far to believe it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

NOTHING = float("nan")


@dataclass(frozen=True, repr=False)
class Estimate:
    """A metric of a batch whose labels are not known.

    The interval is for the *realised* value: what the metric will be once the labels of
    these very rows have come, in all but ``1 - level`` of batches. ``unlike`` is the share
    of rows unlike anything in the reference, of which no method can know much.
    ``effective`` is how many reference rows speak for this batch. ``trust`` falls from 1
    with unlike rows, with fewer than a hundred effective rows, and with estimates that
    realised values contradicted (`Trust`). A value that cannot be had is NaN, and
    ``reason`` says why.

    Examples
    --------
    >>> Estimate("roc_auc", 0.871, 0.862, 0.88, n=10_000, method="CBPE", unlike=0.02, trust=0.98)
    roc_auc estimated 0.871 [0.862, 0.880] over 10,000 rows (CBPE), 2 % unlike the reference
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    method: str
    unlike: float
    trust: float
    level: float = 0.95
    effective: float = NOTHING
    reason: str = ""

    def __repr__(self) -> str:
        rows = f"{self.n:,} row{'' if self.n == 1 else 's'} ({self.method})"
        if math.isnan(self.value):
            return f"{self.metric} not estimated over {rows}: {self.reason}"
        told = f"{self.metric} estimated {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
        odd = f", {100 * self.unlike:.2g} % unlike the reference" if self.unlike else ""
        doubt = f", trust {self.trust:.1f}" if self.trust < 0.95 else ""
        return f"{told} over {rows}{odd}{doubt}"

    def __bool__(self) -> bool:
        return not math.isnan(self.value)

    def trusted(self, trust: float) -> Estimate:
        """Return the estimate with its trust multiplied by what earlier estimates earned."""
        return replace(self, trust=self.trust * trust)

    def to_frame(self) -> pl.DataFrame:
        """Return the estimate as a row."""
        import polars as pl

        return pl.DataFrame([asdict(self)])


def none(metric: str, n: int, method: str, level: float, reason: str) -> Estimate:
    """Return the estimate that says why there is none."""
    return Estimate(
        metric,
        *(NOTHING, NOTHING, NOTHING),
        n=n,
        method=method,
        unlike=NOTHING,
        trust=0.0,
        level=level,
        reason=reason,
    )
