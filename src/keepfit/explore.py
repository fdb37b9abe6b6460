"""Labels that exist only for what was let through: a share of the rest, drawn, and its weights.

A loan that is refused is never repaid, and a payment that is stopped never turns out to be
fraud. A model that is trained and judged on such labels alone sees only the rows that it let
through itself (selective labels: Lakkaraju et al. 2017).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import KW_ONLY, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit.batch import CARRIED, PASSED, PROPENSITY, WEIGHT
from keepfit.errors import ConfigError, KeepfitError
from keepfit.parts import Part

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

SECRET_BYTES = 32
_ALL = 2.0**64


@dataclass(frozen=True, repr=False)
class Explore(Part):
    """Let a share of the rows that would be stopped through, at random.

    For decisions that hide their own outcome: credit, fraud, moderation. Rows on one side of a
    cut-off pass by themselves; of the others the share is let through. Each answer of the
    server says whether its row passes, whether by chance, and with what probability, which is
    kept with the row. A labelled row then weighs 1 / probability in training, in the gate, in
    live comparisons and in scores (Horvitz and Thompson 1952; Zadrozny 2004), and means are
    divided by the sum of the weights (Hájek 1971); a learner that takes no weights is shown it
    as often instead. Rows that no server of keepfit answered, as those of the time before,
    weigh 1: what was stopped then is not known. A label of a row that was stopped counts for
    nothing, because nobody knows which of them get one.

    Parameters
    ----------
    share
        Of the rows that do not pass by themselves, above 0 and up to 1.
    passes_below, passes_above
        The cut-off, one of the two: a row passes by itself when its score is below it, or
        when its score is at it or above. The score is the probability of the second of two
        classes, or the value of a regression.
    heaviest
        The greatest weight of a row, which bounds how much one row can decide, at the price
        of some bias; 1 / ``share`` when not given, which cuts nothing off as long as the
        share stays as it is.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> Explore(0.05, passes_below=0.4)
    Explore(0.05, passes_below=0.4)
    >>> Explore(0.05, passes_below=0.4).passes(0.39), Explore(0.05, passes_above=600).passes(580.0)
    (True, False)

    References
    ----------
    Lakkaraju, Kleinberg, Leskovec, Ludwig and Mullainathan, The selective labels problem (2017).
    Horvitz and Thompson, A generalization of sampling without replacement from a finite
    universe (1952).
    Zadrozny, Learning and evaluating classifiers under sample selection bias (2004).
    """

    share: float
    _: KW_ONLY
    passes_below: float | None = None
    passes_above: float | None = None
    heaviest: float | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.share) and 0 < self.share <= 1):
            raise ConfigError(
                f"Explore: expected a share above 0 and up to 1, got {self.share!r}",
                hint="0.05 lets one in twenty of the rows through that would be stopped",
            )
        cuts = [cut for cut in (self.passes_below, self.passes_above) if cut is not None]
        if len(cuts) != 1:
            raise ConfigError(
                f"Explore: expected one of passes_below and passes_above, got {len(cuts)} of them",
                hint="passes_below=0.4 lets rows with a score below 0.4 pass by themselves",
            )
        if not _is_number(cuts[0]):
            raise ConfigError(f"Explore: expected a finite number as the cut-off, got {cuts[0]!r}")
        heaviest = self.heaviest
        if heaviest is not None and not (_is_number(heaviest) and heaviest >= 1):
            raise ConfigError(f"Explore: expected heaviest to be 1 or more, got {heaviest!r}")

    @property
    def cut(self) -> float:
        """The cut-off."""
        cut = self.passes_above if self.passes_below is None else self.passes_below
        assert cut is not None
        return cut

    def passes(self, score: float) -> bool:
        """Return whether a row passes by itself."""
        return score < self.cut if self.passes_below is not None else score >= self.cut

    def misfit(self, task: str) -> str | None:
        """Return why models of a task cannot be explored with, or None when they can."""
        if task == "multiclass":
            return "explore= needs two classes or a value, and the labels have several classes"
        if task == "binary" and not 0 < self.cut < 1:
            return f"explore= needs a cut-off between 0 and 1 for probabilities, got {self.cut!r}"
        return None


class Passage(NamedTuple):
    """Whether a row passes, whether by chance, and with what probability it does."""

    passed: bool
    explored: bool
    probability: float


BY_ITSELF = Passage(passed=True, explored=False, probability=1.0)


class Draws:
    """Says of each row whether it passes: the same everywhere, at any time, for the same score.

    Chance is a keyed hash of pipeline and id. Without the key nobody can tell which ids are
    let through, and so nobody can choose one.

    Parameters
    ----------
    explore
        What passes by itself, and what share of the rest.
    pipeline
        Its name: another pipeline draws other rows.
    secret
        The key.

    Examples
    --------
    >>> draws = Draws(Explore(0.5, passes_below=0.4), "churn", b"not a secret")
    >>> draws.of(7, 0.1)
    Passage(passed=True, explored=False, probability=1.0)
    >>> draws.of(7, 0.9) == draws.of("7", 0.8)
    True
    """

    __slots__ = ("_hash", "_limit", "_stopped", "_through", "explore")

    def __init__(self, explore: Explore, pipeline: str, secret: bytes) -> None:
        self.explore = explore
        self._hash = blake2b(f"{pipeline}\n".encode(), digest_size=8, key=secret)
        self._limit = explore.share * _ALL
        self._through = Passage(passed=True, explored=True, probability=explore.share)
        self._stopped = Passage(passed=False, explored=False, probability=explore.share)

    def of(self, id_: int | str, score: Any) -> Passage:
        """Return whether a row passes.

        Raises
        ------
        KeepfitError
            There is no single score.
        """
        if not isinstance(score, float):
            raise KeepfitError(
                "expected one score of each row to let it pass by, got one of each class",
                hint="`keepfit rollback` takes the model back; explore= needs two classes or a value",
            )
        if self.explore.passes(score):
            return BY_ITSELF
        hashed = self._hash.copy()
        hashed.update(str(id_).encode())
        drawn = int.from_bytes(hashed.digest(), "big") < self._limit
        return self._through if drawn else self._stopped


def secret_of(home: Path) -> bytes:
    """Return the secret of a home, made once; whoever can read it can tell who is let through.

    Raises
    ------
    KeepfitError
        It cannot be read, or was cut short.
    """
    path = home / "secret"
    try:
        if not path.exists():
            _make(path)
        found = path.read_bytes()
    except OSError as error:
        raise KeepfitError(
            f"cannot read the secret at {path}: {error}",
            hint="it belongs to the user who served first from this home",
        ) from error
    if len(found) != SECRET_BYTES:
        raise KeepfitError(
            f"expected a secret of {SECRET_BYTES} bytes at {path}, got {len(found)}",
            hint="remove the file: another one is made, and other rows are let through",
        )
    return found


def _make(path: Path) -> None:
    """Write a secret for its owner alone; of several that write one at once, the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"secret-{secrets.token_hex(4)}")
    handle = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        unfinished.unlink()


def observed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows without those that were stopped: what labels they have came by other ways."""
    if PASSED not in rows.columns:
        return rows
    import polars as pl

    if rows.get_column(PASSED).null_count() == rows.height:
        # As they were before anything was explored: a snapshot of that time has its digest.
        return rows.drop(CARRIED)
    return rows.filter(pl.col(PASSED).fill_null(value=True))


def weights(rows: pl.DataFrame, explore: Explore | None = None) -> np.ndarray | None:
    """Return what each row weighs that was let through, (rows,); None where all weigh 1."""
    if PROPENSITY not in rows.columns:
        return None
    found: np.ndarray = 1.0 / rows.get_column(PROPENSITY).fill_null(1.0).to_numpy()
    if explore is not None:
        # One that was drawn while the share was smaller must not outweigh all others.
        found = found.clip(max=explore.heaviest or 1.0 / explore.share)
    return found if (found != 1.0).any() else None


def weighted(rows: pl.DataFrame, explore: Explore | None = None) -> pl.DataFrame:
    """Return rows to train on, with what they weigh in ``_weight`` where that differs."""
    import polars as pl

    found = weights(rows, explore)
    plain = rows.drop(CARRIED, strict=False) if PROPENSITY in rows.columns else rows
    return plain if found is None else plain.with_columns(pl.Series(WEIGHT, found))


def repeated(rows: pl.DataFrame, explore: Explore | None = None) -> pl.DataFrame:
    """Return rows in their order, each as often as it weighs: as if none had been stopped.

    For learners that take no weights, and for what describes training rows, which later ones,
    stopped or not, are measured against.
    """
    found = weights(rows, explore)
    if found is None:
        return rows
    import numpy as np

    times = np.diff(np.floor(np.cumsum(found)), prepend=0.0).astype(np.int64)
    return rows[np.repeat(np.arange(rows.height), times)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0
