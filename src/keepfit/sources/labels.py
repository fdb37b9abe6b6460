"""Labels that come from elsewhere than their rows."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from keepfit.batch import TIME, Batch
from keepfit.errors import ConfigError
from keepfit.sources.place import not_understood
from keepfit.sources.windows import Windows

if TYPE_CHECKING:
    import polars as pl

    from keepfit.protocols import Source

EVER = timedelta(days=365_000)


class WithLabels:
    """A source of rows, and a second one whose labels are joined by id.

    The time column of the second source is when its labels became known. A label may come
    before its row or after it, and may come again to correct the one before.

    Raises
    ------
    ConfigError
        Either has no id, or the second has no label.

    Examples
    --------
    >>> from keepfit import sources
    >>> rows = sources.Parquet("rides/", id="ride", time="started_at")
    >>> answers = sources.Parquet("complaints/", id="ride", time="filed_at", label="complained")
    >>> WithLabels(rows, answers).roles.label
    'complained'
    """

    def __init__(self, rows: Any, labels: Any) -> None:
        for source, what in ((rows, "rows"), (labels, "labels")):
            if source.roles.id is None:
                raise ConfigError(
                    f"expected an id in the source of {what}, got none",
                    hint='name its column: id="id"',
                )
        if labels.roles.label is None:
            raise ConfigError(
                "expected a label in the source of labels, got none",
                hint='name its column: label="churned"',
            )
        self.rows: Source = rows
        self.labels: Source = _known_at_its_time(labels)
        self.roles = replace(
            rows.roles,
            label=labels.roles.label,
            label_delay=rows.roles.label_delay or labels.roles.label_delay,
        )

    def __repr__(self) -> str:
        return f"WithLabels({self.rows!r}, {self.labels!r})"

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return unread rows of one cadence, and every unread label."""
        place = {"rows": None, "labels": None} if cursor is None else _parts(cursor)
        rows = self.rows.read(place["rows"], now=now, every=every)
        labels = self.labels.read(place["labels"], now=now, every=EVER)
        # Each on a line of its own: cursors are kept as what differs, line by line.
        told = json.dumps({"rows": rows.cursor, "labels": labels.cursor}, indent=0)
        return replace(
            rows,
            labels=_alone(labels.labels),
            cursor=told,
            findings=rows.findings + labels.findings,
        )

    def history(self) -> Batch:
        """Return all rows and all labels."""
        rows, labels = self.rows.history(), self.labels.history()
        return replace(rows, labels=_alone(labels.labels), findings=rows.findings + labels.findings)


def _known_at_its_time(labels: Any) -> Any:
    """Return a source of labels whose time is when they became known, with no delay on top."""
    if not isinstance(labels, Windows):
        return labels
    # The user's own object stays as it was made: it may serve elsewhere too.
    own = copy.deepcopy(labels)
    own.roles = replace(labels.roles, label_delay=None)
    return own


def _parts(cursor: str) -> dict[str, str | None]:
    try:
        told = json.loads(cursor)
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.keys() != {"rows", "labels"}:
        raise not_understood(cursor)
    return told


def _alone(labels: pl.DataFrame) -> pl.DataFrame:
    """Return labels without event times: those are of rows that this source does not know."""
    import polars as pl

    return labels.with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias(TIME)).unique(
        maintain_order=True
    )
