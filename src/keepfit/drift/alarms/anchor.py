"""The first reference stays as an anchor, so that slow drift is seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from keepfit.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_KOLMOGOROV = math.pi**2 / 12
"""The mean square of sqrt(n) times a Kolmogorov-Smirnov distance without ties."""

_ALPHA = 0.001
"""The chance that sampling noise passes its bound in any column of one batch."""


class AnchorState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an anchor has seen so far, small enough for a fact.

    ``runs`` holds the columns beyond their limit with the batches in a row that they have
    been there; ``fired`` names the columns that were said to have left in this batch, and
    ``said`` all that ever were.
    """

    fired: tuple[int, ...] = ()
    said: tuple[int, ...] = ()
    runs: tuple[tuple[int, int], ...] = ()


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """Says once that a column has left the first reference for good.

    A moving reference follows slow drift and never shows it; the first reference does not
    move. A column has left when its distance to the anchor is beyond an absolute limit, the
    noise of both samples, and what the anchor's own blocks show beyond noise, in several
    batches in a row. This is no test of change: it adds next to nothing to the rate of
    false alarms, and drift below the limit is not its business.

    Parameters
    ----------
    rows
        Rows of the whole first reference.
    own
        Per column, how far apart the anchor's own blocks are, beyond noise.
    limit
        The distance that counts.
    batches
        Batches in a row that must be beyond.

    Examples
    --------
    >>> anchor = Anchor.of([[0.02, 0.05]] * 8, [500] * 8)
    >>> state = None
    >>> for _ in range(3):
    ...     state = anchor.advance(state, [0.03, 0.4], 500)
    >>> state.fired, anchor.advance(state, [0.03, 0.4], 500).fired
    ((1,), ())

    References
    ----------
    Wei and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities (2012).
    """

    rows: float
    own: tuple[float, ...]
    limit: float = 0.1
    batches: int = 3

    @classmethod
    def of(
        cls, history: ArrayLike, sizes: ArrayLike, *, limit: float = 0.1, batches: int = 3
    ) -> Anchor:
        """Learn what the anchor's own blocks show, from their distances to the rest of it.

        Raises
        ------
        ConfigError
            The arrays do not fit each other, or a number is outside its range.
        """
        import numpy as np

        found = np.atleast_2d(np.asarray(history, dtype=np.float64))
        rows = np.asarray(sizes, dtype=np.float64).reshape(-1)
        if found.ndim != 2 or rows.size != found.shape[0] or not (rows >= 1).all():
            raise ConfigError(
                f"Anchor: expected a size of one row or more for each of {found.shape[0]} blocks, "
                f"got {rows.tolist()!r}"
            )
        if not 0.0 < limit <= 1.0 or batches < 1:
            raise ConfigError(
                f"Anchor: expected a limit above 0 up to 1 and one batch or more, "
                f"got {limit!r} and {batches!r}"
            )
        blocks, columns = found.shape
        total = float(rows.sum())
        rest = np.maximum(1.0, total - rows)
        noise = np.array([_noise(columns, *both) for both in zip(rows, rest, strict=True)])
        there = np.isfinite(found)
        known = np.where(there, found, 0.0)
        beyond = np.maximum(known - noise[:, None], 0.0).max(axis=0)
        # The mean square of a distance less that of sampling noise is what blocks differ by.
        expected = np.where(there, _KOLMOGOROV * (1 / rows + 1 / rest)[:, None], 0.0)
        more = (known**2 - expected).sum(axis=0) / np.maximum(1, there.sum(axis=0))
        # Few blocks that resemble their neighbours show too little of how far a stream wanders.
        own = np.maximum(beyond * (1 + 3 / blocks), np.sqrt(np.maximum(more, 0)) * (1 + 6 / blocks))
        return cls(rows=total, own=tuple(own.tolist()), limit=limit, batches=batches)

    def advance(self, state: AnchorState | None, distances: ArrayLike, size: float) -> AnchorState:
        """Return the state after one more batch; a distance that is NaN leaves its run as it is.

        Raises
        ------
        ConfigError
            There are not as many distances as the anchor has columns.
        """
        import numpy as np

        state = state or AnchorState()
        values = np.asarray(distances, dtype=np.float64).reshape(-1)
        if values.size != len(self.own):
            raise ConfigError(
                f"Anchor: expected a distance for each of {len(self.own)} columns, "
                f"got {values.size}"
            )
        limits = self.limits(size)
        before, runs = dict(state.runs), {}
        for i, (value, limit) in enumerate(zip(values.tolist(), limits, strict=True)):
            if math.isnan(value):
                run = before.get(i, 0)
            else:
                run = min(before.get(i, 0) + 1, self.batches) if value > limit else 0
            if run and i not in state.said:
                runs[i] = run
        fired = tuple(i for i, run in runs.items() if run >= self.batches)
        return AnchorState(
            fired=fired,
            said=tuple(sorted({*state.said, *fired})),
            runs=tuple((i, run) for i, run in runs.items() if i not in fired),
        )

    def limits(self, size: float) -> tuple[float, ...]:
        """Return the distance beyond which each column of a batch of this size counts."""
        noise = _noise(len(self.own), size, self.rows)
        return tuple(self.limit + noise + own for own in self.own)


def _noise(columns: int, rows: float, others: float) -> float:
    """Return the distance that samples of one distribution pass with chance `_ALPHA` / columns."""
    if rows < 1:
        return 1.0
    tail = 1 + math.log(2 * max(1, columns) / _ALPHA)
    return min(1.0, math.sqrt(tail * (1 / rows + 1 / others) / 2))
