"""Adopting: a model that was trained elsewhere becomes a pipeline's first champion."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

from keepfit import facts
from keepfit.batch import ID, LABEL
from keepfit.errors import ConfigError, SourceError
from keepfit.learners.adopted import AdoptedModel, adopted
from keepfit.mirror import settings_of
from keepfit.mirror.origin import Fetched, fetch

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop

TRIED_ON = 1_000
"""Rows of the source that a model answers before it is adopted."""


def adopt(
    loop: Loop,
    spec: str,
    *,
    reason: str,
    by: str,
    tracking_uri: str = "",
    registry_uri: str = "",
    trust: bool = False,
    trained_to: datetime | None = None,
) -> facts.Adopted:
    """Make a registered model of MLflow the first champion, once it answers rows of the source.

    Which rows taught it nobody here knows. It is taken to have seen all up to ``trained_to``,
    the moment when it was registered where nobody says better: only later rows judge, the
    challengers trained here and itself alike. Where no address is given it is that of
    ``[mlflow]`` in ``keepfit.toml``, or ``MLFLOW_TRACKING_URI``.

    Raises
    ------
    ConfigError
        Something serves already, there is no such model, opening it may run code and ``trust``
        was not given, or it does not answer rows of the source.
    SchemaMismatch
        The source lacks a column.
    SourceError
        There are no rows to try it on.
    """
    state = loop.refold()
    if state.champion is not None:
        raise ConfigError(
            f"expected a pipeline without a champion, got {loop.pipeline.name!r}, "
            f"in which {state.champion} serves",
            hint="a home of its own, --home, takes it up beside this one",
        )
    now = loop.clock.now()
    rows = sample(loop, now)
    fetched = fetch(spec, *_where(loop, tracking_uri, registry_uri), trust=trust)
    model = _answering(loop, fetched, rows)
    to = min(trained_to or fetched.made_at, now)
    fact = facts.Adopted(
        version=f"v{len(state.versions) + 1}",
        artifact=loop.memory.artifacts.put(model.dumps()),
        origin=fetched.origin,
        trained_to=to,
        stated=trained_to is not None,
        features=model.features,
        packages=fetched.packages,
        reason=reason,
        by=by,
    )
    with loop.holding():
        _written(loop, fact, now)
    return fact


def _where(loop: Loop, tracking_uri: str, registry_uri: str) -> tuple[str, str]:
    """Return which MLflow is meant."""
    settings = settings_of(loop.pipeline.home)
    if settings is not None and not tracking_uri:
        return settings.tracking_uri, registry_uri or settings.registry
    found = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not found:
        raise ConfigError(
            "expected the address of an MLflow, got none",
            hint="--tracking-uri http://127.0.0.1:5000, or [mlflow] in keepfit.toml",
        )
    return found, registry_uri


def _written(loop: Loop, fact: facts.Adopted, now: datetime) -> None:
    """Write that a model is adopted, and serves, in one transaction."""
    serves = facts.Promoted(version=fact.version, reason=fact.reason, by=fact.by)
    if loop.refold().champion is not None or fact.version in loop.state.versions:
        raise ConfigError(
            f"another process trained {loop.pipeline.name!r} meanwhile; nothing was adopted",
            hint="`keepfit status` shows what serves",
        )
    loop.append([fact, serves], now, expected=loop.state.seq)


def sample(loop: Loop, now: datetime) -> pl.DataFrame:
    """Return rows of the source with the labels that are known, without landing any.

    Raises
    ------
    SourceError
        There are none.
    """
    import polars as pl

    newest: pl.DataFrame = (
        loop.labelled(now).tail(TRIED_ON) if loop.state.let_in else pl.DataFrame()
    )
    if newest.height:
        return newest
    batch = loop.source.read(loop.state.cursor, now=now, every=loop.every)
    rows: pl.DataFrame = loop.columns(batch.rows).tail(TRIED_ON)
    if rows.is_empty():
        raise SourceError(
            f"expected rows in {loop.source!r} to try the model on, got none",
            hint="`keepfit check FILE` says what the source brings",
        )
    if batch.labels.is_empty():
        return rows.with_columns(pl.lit(None, pl.Float64).alias(LABEL))
    return rows.join(batch.labels.select(ID, LABEL), on=ID, how="left", maintain_order="left")


def _answering(loop: Loop, fetched: Fetched, rows: pl.DataFrame) -> AdoptedModel:
    name = fetched.origin.uri
    if not fetched.columns:
        raise ConfigError(
            f"expected {name} to say which columns it needs, got no signature and no names",
            hint="register it with a signature: mlflow.models.infer_signature(rows)",
        )
    known = rows.get_column(LABEL)
    model = adopted(fetched.estimator, name, rows.drop(LABEL), known, fetched.columns)
    loop.scorer.metric(model)
    return model
