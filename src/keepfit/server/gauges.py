"""How a pipeline stands, from its facts, as Prometheus reads it: quality, drift, age, cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from keepfit.ledger.steps import Steps
    from keepfit.registry import State

PIPELINE = ("pipeline",)


def families(name: str, state: State, now: datetime) -> Iterator[Metric]:
    """Yield the metrics of a pipeline whose facts add up to a state."""
    yield from _quality(name, state)
    yield from _drift(name, state)
    yield from _age(name, state, now)
    yield from _data(name, state)
    yield from _happened(name, state)


def stepping(name: str, steps: Steps, now: datetime) -> Iterator[Metric]:
    """Yield how the loop comes through its steps."""
    if steps.done_at is not None:
        yield _gauge(
            "keepfit_loop_step_timestamp_seconds",
            "When the loop last came through a step, as seconds since 1970.",
            name,
            steps.done_at.timestamp(),
        )
        age = max(0.0, (now - steps.done_at).total_seconds())
        yield _gauge("keepfit_loop_step_age_seconds", "How long ago that was.", name, age)
    yield _gauge(
        "keepfit_loop_steps_failed",
        "Steps in a row that the loop did not come through; 0 when all is well.",
        name,
        steps.failed,
    )


def _quality(name: str, state: State) -> Iterator[Metric]:
    """Yield the newest score from labels, and the newest estimate for rows without."""
    labels = ["pipeline", "metric", "version", "bound"]
    scored = GaugeMetricFamily(
        "keepfit_quality", "The metric of the newest batch with its labels.", labels=labels
    )
    estimated = GaugeMetricFamily(
        "keepfit_quality_estimated",
        "The metric of the newest batch without its labels, as estimated.",
        labels=labels,
    )
    newest = state.last_scored
    metric = "" if newest is None else newest.metric
    if newest is not None:
        values = (newest.value, newest.low, newest.high)
        _add(scored, [name, metric, newest.version], values)
    if state.awaited:
        values = state.awaited[max(state.awaited)]
        _add(estimated, [name, metric, state.champion or ""], values)
    yield scored
    yield estimated


def _add(
    family: GaugeMetricFamily,
    labels: list[str],
    values: tuple[float | None, float | None, float | None],
) -> None:
    for bound, value in zip(("value", "low", "high"), values, strict=True):
        if value is not None:
            family.add_metric([*labels, bound], value)


def _drift(name: str, state: State) -> Iterator[Metric]:
    beyond = GaugeMetricFamily(
        "keepfit_drift_beyond_limit",
        "Columns beyond their drift limit in the newest batch.",
        labels=["pipeline", "column"],
    )
    for column in state.drifted:
        beyond.add_metric([name, column], 1)
    yield beyond
    yield _gauge("keepfit_drift_columns", "How many they are.", name, len(state.drifted))


def _age(name: str, state: State, now: datetime) -> Iterator[Metric]:
    """Yield how old what serves is, and how far rows and labels have come."""
    champion = state.versions.get(state.champion or "")
    moments = (
        (
            "trained_to",
            "Newest row that the champion was trained on",
            None if champion is None else champion.snapshot.to,
        ),
        ("rows_to", "Newest row that has arrived", state.watermark),
        ("labels_to", "Moment up to which labels are complete", state.labelled_to),
    )
    for what, told, moment in moments:
        if moment is not None:
            yield _gauge(
                f"keepfit_{what}_timestamp_seconds",
                f"{told}, as seconds since 1970.",
                name,
                moment.timestamp(),
            )
    if champion is not None:
        age = (now - champion.snapshot.to).total_seconds()
        yield _gauge(
            "keepfit_staleness_seconds", "Age of the champion's newest row.", name, max(0.0, age)
        )


def _data(name: str, state: State) -> Iterator[Metric]:
    rows = sum(batch.rows for batch in state.unscored)
    counts = state.counts
    yield _counter(
        "keepfit_rows_landed", "Rows that have landed, corrected ones once.", name, counts.rows
    )
    yield _counter(
        "keepfit_labels_landed",
        "Labels that have landed, corrected ones once.",
        name,
        counts.labels,
    )
    yield _gauge(
        "keepfit_rows_awaiting_labels", "Rows whose batch waits for labels to mature.", name, rows
    )
    yield _gauge(
        "keepfit_batches_quarantined", "Batches in quarantine.", name, len(state.quarantined)
    )
    yield _gauge("keepfit_paused", "Whether it is paused.", name, state.paused is not None)
    yield from _asked(name, state)


def _asked(name: str, state: State) -> Iterator[Metric]:
    """Yield since when a version waits for a person's word, where one does."""
    waits = GaugeMetricFamily(
        "keepfit_approval_asked_timestamp_seconds",
        "When a person was asked about the version that waits, as seconds since 1970.",
        labels=["pipeline", "version"],
    )
    if state.request is not None and state.request.said is None:
        waits.add_metric([name, state.request.version], state.request.since.timestamp())
    yield waits


def _happened(name: str, state: State) -> Iterator[Metric]:
    counts = state.counts
    yield _counter("keepfit_trainings", "Trainings that ended.", name, counts.trainings)
    for what, count in (
        ("failed", counts.failed),
        ("skipped", counts.skipped),
        ("promoted", counts.promoted),
        ("refused", counts.refused),
        ("rolled_back", counts.rolled_back),
    ):
        told = f"Versions that were {what.replace('_', ' ')}."
        yield _counter(f"keepfit_versions_{what}", told, name, count)
    for what, told, seconds in (
        ("training", "CPU spent on trainings and on probes.", counts.fit_cpu_seconds),
        ("probe", "CPU spent on probes.", counts.probe_cpu_seconds),
    ):
        yield _counter(f"keepfit_{what}_cpu_seconds", told, name, seconds)
    yield _gauge("keepfit_trainings_running", "Trainings that run.", name, len(state.training))


def _gauge(metric: str, told: str, name: str, value: float) -> Metric:
    family = GaugeMetricFamily(metric, told, labels=PIPELINE)
    family.add_metric([name], float(value))
    return family


def _counter(metric: str, told: str, name: str, value: float) -> Metric:
    family = CounterMetricFamily(metric, told, labels=PIPELINE)
    family.add_metric([name], float(value))
    return family
