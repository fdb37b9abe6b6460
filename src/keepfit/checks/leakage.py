"""The check for features that give the label away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keepfit.batch import ID, LABEL
from keepfit.checks.asking import Asking, features, share
from keepfit.facts import Finding
from keepfit.profile import kind_of

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.protocols import CheckContext

_ENOUGH = 100
"""Labelled rows below which luck gives labels away."""

_LEAST = 10
"""Rows that a class must have."""

_CLASSES = 20
"""Distinct values up to which numbers are classes, and classes that are looked at."""

_CODES = 50
"""Distinct values up to which a feature of numbers is also taken for codes."""


@dataclass(frozen=True, repr=False)
class Leakage(Asking):
    """Whether one feature alone gives the label away.

    Such a feature is mostly written after the label is known and will not be there when
    it counts. Numbers, and whether a value is missing, are judged by AUC, each class
    against the others; categories by how well one half of the rows tells the labels of
    the other; for labels that are quantities, the rank correlation counts. It looks at
    the labels that came with the batch: two classes or more and 100 labelled rows.

    Parameters
    ----------
    above
        The AUC, share of right answers or correlation from which a feature is named.

    Raises
    ------
    ConfigError
        ``above`` is no share.

    Examples
    --------
    >>> Leakage(), Leakage(0.95, severity="block")
    (Leakage(), Leakage(0.95, severity="block"))
    """

    above: float = 0.99
    severity: str = field(default="warn", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "above", self.above)

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        rows = _labelled(batch)
        if rows.height < _ENOUGH:
            message = f"{rows.height} labelled rows in the batch, {_ENOUGH} needed"
            yield self._not_applicable(message)
            return
        labels = rows.get_column(LABEL)
        counts = labels.value_counts(name="#").get_column("#")
        quantity = labels.dtype.is_numeric() and counts.len() > _CLASSES
        if not quantity and (counts.len() < 2 or counts.sort(descending=True)[1] < _LEAST):
            yield self._not_applicable("fewer than two classes with ten labelled rows each")
            return
        scores: dict[str, float] = {}
        if features(rows):
            scores = _correlations(rows) if quantity else _class_scores(rows)
        what = "rank correlation" if quantity else "score"
        found = [
            self._block(
                f"`{name}` alone gives the label away: {what} {value:.3f}",
                column=name,
                value=value,
                limit=self.above,
                hint="is it written after the label is known? then leave it out: exclude=[…]",
            )
            for name, value in scores.items()
            if value >= self.above
        ]
        most = max(scores, key=lambda name: scores[name], default=None)
        if found or most is None:
            yield from found or [self._not_applicable("no feature to compare with the label")]
        else:
            nearest = f"`{most}` comes nearest: {what} {scores[most]:.3f}"
            message = f"no feature gives the label away; {nearest}"
            yield self._pass(message, value=scores[most], limit=self.above)


def _labelled(batch: Batch) -> pl.DataFrame:
    """Return the rows of a batch that came with their label, of several the last."""
    import polars as pl

    labels = batch.labels.select(ID, LABEL).drop_nulls()
    labels = labels.unique(ID, keep="last", maintain_order=True)
    if labels.schema[LABEL].is_float():
        labels = labels.filter(pl.col(LABEL).is_finite())
    return batch.rows.select(ID, *features(batch.rows)).join(labels, on=ID, how="inner")


def _ordered(rows: pl.DataFrame) -> dict[str, pl.Expr]:
    """Return the features that have an order, by name; what is missing is null."""
    import polars as pl

    schema = rows.schema
    return {
        name: pl.col(name).fill_nan(None) if schema[name].is_float() else pl.col(name)
        for name in features(rows)
        if kind_of(schema[name]) in ("number", "time", "boolean")
    }


def _correlations(rows: pl.DataFrame) -> dict[str, float]:
    """Return the size of each feature's rank correlation (Spearman) with the label."""
    import polars as pl

    def ranked(values: pl.Expr) -> pl.Expr:
        there = values.is_not_null()
        return pl.corr(values.filter(there).rank(), pl.col(LABEL).filter(there).rank())

    asked = {
        name: pl.when(values.count() >= _ENOUGH).then(ranked(values))
        for name, values in _ordered(rows).items()
    }
    found = rows.select(**asked).row(0) if asked else ()
    known = zip(asked, found, strict=True)
    return {name: abs(value) for name, value in known if value is not None and value == value}


def _class_scores(rows: pl.DataFrame) -> dict[str, float]:
    """Return for each feature how well it tells the classes apart by itself."""
    import polars as pl

    scores = _aucs(rows)
    schema = rows.schema
    kinds = {name: kind_of(schema[name]) for name in scores}
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    distinct = rows.select(pl.col(numbers).n_unique()).row(0) if numbers else ()
    codes = {name for name, n in zip(numbers, distinct, strict=True) if n <= _CODES}
    for name, kind in kinds.items():
        if kind == "category" or name in codes:
            scores[name] = max(scores[name], _told_by_value(rows, name))
    return scores


def _aucs(rows: pl.DataFrame) -> dict[str, float]:
    """Return for each feature the least AUC of a class against the others.

    A feature is judged by its ranks, and by whether it is missing; the better one counts.
    """
    import polars as pl

    columns, ordered, classes = features(rows), _ordered(rows), _classes(rows)
    ranks = {f"rank {name}": values.cast(pl.Float64).rank() for name, values in ordered.items()}
    gone = {f"gone {name}": ordered.get(name, pl.col(name)).is_null() for name in columns}
    table = rows.select(LABEL, **ranks, **gone)
    scores = dict.fromkeys(columns, 0.0)
    for asked, auc in ((ranks, _auc_of_ranks), (gone, _auc_of_flag)):
        found = [table.select(auc(text, one) for text in asked).row(0) for one in classes]
        for text, values in zip(asked, zip(*found, strict=True), strict=True):
            known = [max(value, 1 - value) for value in values if value is not None]
            name = text[len("rank ") :]
            scores[name] = max(scores[name], min(known, default=0.0))
    return scores


def _classes(rows: pl.DataFrame) -> list[object]:
    """Return the classes to tell from the others, the most frequent first."""
    import polars as pl

    counts = rows.get_column(LABEL).value_counts(name="#").sort("#", LABEL, descending=True)
    found: list[object] = counts.filter(pl.col("#") >= _LEAST).get_column(LABEL).to_list()
    # Of two classes one is the other's mirror image.
    return found[:1] if counts.height == 2 else found[:_CLASSES]


def _auc_of_ranks(name: str, one: object) -> pl.Expr:
    """Return the AUC of ranks for a class (Mann and Whitney, 1947), null where few have them."""
    import polars as pl

    inside = pl.col(name).filter(pl.col(LABEL) == pl.lit(one))
    n = inside.count().cast(pl.Float64)
    others = pl.col(name).count() - n
    area = (inside.mean() - (n + 1) / 2) / others
    return pl.when((n >= _LEAST) & (others >= _LEAST)).then(area).alias(name)


def _auc_of_flag(name: str, one: object) -> pl.Expr:
    """Return the AUC of true and false for a class."""
    import polars as pl

    here, flag = pl.col(LABEL) == pl.lit(one), pl.col(name)
    return (0.5 + (flag.filter(here).mean() - flag.filter(~here).mean()) / 2).alias(name)


def _told_by_value(rows: pl.DataFrame, name: str) -> float:
    """Return the mean share of each class that a table of the other half's values gets right."""
    import polars as pl

    pairs = rows.select(value=pl.col(name).cast(pl.String), label=pl.col(LABEL))
    # Shuffled, because labels may alternate, or come in runs.
    pairs = pairs.sample(fraction=1.0, shuffle=True, seed=0)
    half = pairs.height // 2
    learnt = (
        pairs[:half]
        .group_by("value", "label")
        .len()
        .sort("len", "label", descending=True)
        .unique("value", keep="first", maintain_order=True)
        .select("value", guess="label")
    )
    told = pairs[half:].join(learnt, on="value", how="left", nulls_equal=True)
    right = told.group_by("label").agg((pl.col("guess") == pl.col("label")).fill_null(False).mean())
    return float(right.select(pl.col("guess").mean()).item() or 0.0)
