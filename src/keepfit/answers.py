"""What a model says of rows, though it fails some of them, and the form in which that is kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit.batch import SCORE, VERSION, infinite
from keepfit.errors import SchemaMismatch
from keepfit.facts import FAILING, Finding, Outcome

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

LONE = 8
"""Rows that are asked alone, spread over all: where not one is answered, no other is asked."""

WORDS = 300
"""Letters that are kept of why rows could not be answered."""

TRIES = 1_000
"""Questions asked at most to find the odd rows: each costs two per halving that isolates it."""

FEW, AT_HAND = 5_000, 4
"""Rows of which is kept what a model said, at most, and of how many questions."""

RUNS = 200
"""Runs of rows with infinite values, and without, of which each is asked at once."""


class Said(NamedTuple):
    """Scores of rows, NaN in those without an answer, which have one, and the first error."""

    scores: np.ndarray
    right: np.ndarray
    error: Exception | None

    @property
    def why(self) -> str:
        """What there is to say of the rows without an answer."""
        return "no number" if self.error is None else f"{type(self.error).__name__}: {self.error}"


def of(model: Any, rows: pl.DataFrame) -> Said:
    """Return what a model says of rows, as far as it can."""
    return asked(lambda _, part: model.predict(part), rows, several(model))


class Lately:
    """What models said of the few rows that they were asked about lately.

    The challengers of a turn are held against the same champion, mostly on the same rows.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[Any, pl.DataFrame, Said]] = deque(maxlen=AT_HAND)

    def of(self, model: Any, rows: pl.DataFrame) -> Said:
        """Return what a model says of rows, as far as it can."""
        if rows.height > FEW:
            return of(model, rows)
        for known, asked, said in self._kept:
            if known is model and _same(asked, rows):
                return said._replace(scores=said.scores.copy(), right=said.right.copy())
        said = of(model, rows)
        if said.error is None:  # which would hold on to what raised it
            kept = said._replace(scores=said.scores.copy(), right=said.right.copy())
            self._kept.append((model, rows, kept))
        return said


def _same(rows: pl.DataFrame, others: pl.DataFrame) -> bool:
    """Return whether rows are others, value by value; False where that cannot be told."""
    import polars as pl

    if rows.height != others.height:
        return False
    types = rows.dtypes
    return types == others.dtypes and pl.Object not in types and rows.equals(others)


def answered(model: Any, rows: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the rows that a model can answer, with what it says of them."""
    said = of(model, rows)
    if said.right.all():
        return rows, said.scores
    return rows.filter(said.right), said.scores[said.right]


def none(rows: int, error: Exception) -> Said:
    """Return that no row is answered, and why."""
    import numpy as np

    return Said(np.full(rows, np.nan), np.zeros(rows, dtype=bool), error)


def several(model: Any) -> int:
    """Return how many scores each row has; 0 for one that is a plain number."""
    return len(model.classes) if model.task == "multiclass" else 0


def asked(
    answer: Callable[[int, pl.DataFrame], np.ndarray], rows: pl.DataFrame, several: int = 0
) -> Said:
    """Return what rows are answered; ``answer`` takes the place of the first one, and the rows.

    One odd row is not the fault of all. Where all at once cannot be answered, and some hold
    infinite values, the runs of rows that do and do not are asked, the longest first. Where that
    fails too, or there are none, a few rows are asked alone; what answers none of those is taken to
    answer none at all, and is given up on. Else halves are asked of what failed, and halves of
    those that fail, the largest first, until the odd rows are alone. When too many were asked for
    that, what has not been answered yet stays without an answer. A column that is missing is
    missing from all of them: nothing more is asked then.
    """
    import numpy as np

    from keepfit.metrics.evidence import finite_rows

    count = rows.height
    scores = np.full((count, several) if several else count, np.nan)
    error: Exception | None = None

    def fails(first: int, size: int) -> bool:
        nonlocal error
        part = rows if size == count else rows.slice(first, size)
        place = scores[first : first + size]
        try:
            found = np.asarray(answer(first, part), dtype=np.float64)
            if found.shape != place.shape:
                raise ValueError(f"expected scores of the shape {place.shape}, got {found.shape}")
        except Exception as raised:
            error = error or raised
            return True
        place[:] = found
        return False

    if count and fails(0, count) and not isinstance(error, SchemaMismatch):
        runs = _runs(rows)
        if len(runs) > 1 and not fails(*runs[0]):
            rest = [run for run in runs[1:] if fails(*run)]
            _parted(fails, rest, TRIES - len(runs))
        else:
            alone = np.unique(np.linspace(0, count - 1, LONE).astype(int)).tolist()
            unanswered = [fails(place, 1) for place in alone]
            if count > len(alone) and not all(unanswered):
                _parted(fails, [(0, count)], TRIES)
    right = finite_rows(scores)
    scores[~right] = np.nan
    return Said(scores, right, error)


def _runs(rows: pl.DataFrame) -> list[tuple[int, int]]:
    """Return the first row and size of each run with infinite values or without, longest first.

    They are what most often cannot be answered; none where they would be too many to ask.
    """
    import numpy as np

    odd = infinite(rows).to_numpy()
    starts = [0, *(np.flatnonzero(odd[1:] != odd[:-1]) + 1).tolist(), rows.height]
    if len(starts) > RUNS:
        return []
    return sorted(((a, b - a) for a, b in pairwise(starts)), key=lambda run: -run[1])


def _parted(fails: Callable[[int, int], bool], parts: Iterable[tuple[int, int]], left: int) -> None:
    """Ask halves of rows that fail together, the largest first, ``left`` times at most."""
    failing = deque(part for part in parts if part[1] > 1)
    while failing and left > 0:
        first, size = failing.popleft()
        half = size // 2
        for part in ((first, half), (first + half, size - half)):
            if fails(*part) and part[1] > 1:
                failing.append(part)
        left -= 2


def failed(said: pl.DataFrame, reasons: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each version that left rows of a batch without a score, and why."""
    if not said.get_column(SCORE).null_count():
        return
    missing = said.filter(said.get_column(SCORE).is_null()).get_column(VERSION)
    served = Counter(said.get_column(VERSION))
    for name, count in Counter(missing).items():
        why = reasons.get(name, "no number").partition("\n")[0][:WORDS]
        yield Finding(
            check=FAILING,
            outcome=Outcome.WARN,
            message=f"{name} could not answer {count:,} of {served[name]:,} rows: {why}",
            value=count,
            hint="they count as answered wrong; a learner that takes such values answers them, "
            "a check that blocks them sets the batch apart",
        )


def stored(scores: np.ndarray) -> pl.Series:
    """Return scores as they are kept: null in rows that have none, lists where each has several."""
    import numpy as np
    import polars as pl

    if scores.ndim == 1:
        return pl.Series(SCORE, scores, nan_to_null=True)
    there = np.isfinite(scores).all(axis=1)
    kept = [row if known else None for row, known in zip(scores.tolist(), there, strict=True)]
    return pl.Series(SCORE, kept, dtype=pl.List(pl.Float64))


def alike(*scores: pl.Series) -> list[pl.Series]:
    """Return stored scores in one form: of both classes, where those of another are of several."""
    import polars as pl

    if len({isinstance(one.dtype, pl.List) for one in scores}) == 1:
        return list(scores)
    return [one if isinstance(one.dtype, pl.List) else _of_both(one) for one in scores]


def _of_both(scores: pl.Series) -> pl.Series:
    import polars as pl

    kept = [None if one is None else [1 - one, one] for one in scores.to_list()]
    return pl.Series(scores.name, kept, dtype=pl.List(pl.Float64))


def restored(values: pl.Series, several: int) -> np.ndarray:
    """Return scores from the form they are kept in, NaN in rows that have none.

    Parameters
    ----------
    values
        The scores of a batch, in the form of `stored`.
    several
        How many scores each row has; 0 for one that is a plain number.
    """
    import numpy as np
    import polars as pl

    wide = isinstance(values.dtype, pl.List)
    if not several:
        # Of two classes, where another version answered rows of the batch with more of them.
        return (values.list.get(1, null_on_oob=True) if wide else values).to_numpy()
    if not wide:
        # Where no row of a batch was answered, nothing tells of how many classes it was.
        return np.full((len(values), several), np.nan)
    table = np.zeros((values.len(), several))
    for i, row in enumerate(values.to_list()):
        if row is None:
            table[i] = np.nan
        else:
            table[i, : min(len(row), several)] = row[:several]
    return table
