"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from starlette.requests import Request
from starlette.responses import Response

from keepfit.clock import WallClock
from keepfit.server import gauges
from keepfit.server.counters import EDGES
from keepfit.server.replies import Reply
from keepfit.server.tally import Counts, Tally

if TYPE_CHECKING:
    from keepfit.ledger.steps import Steps
    from keepfit.registry import State
    from keepfit.server.access import Access
    from keepfit.server.desk import Desk
    from keepfit.server.office import Office

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def counted(desk: Desk) -> Counts:
    """Return what a worker counted so far."""
    counters, challenger = desk.counters, desk.follower.challenger
    requests: dict[str, dict[int, int]] = {}
    for (route, status), count in list(counters.requests.items()):
        requests.setdefault(route, {})[status] = count
    serving = desk.follower.current
    care = None if serving is None else serving.aftercare
    found = Counts(
        requests=requests,
        buckets={route: list(counts) for route, counts in list(counters.buckets.items())},
        seconds=dict(counters.seconds),
        rows=counters.rows,
        swaps=desk.follower.swaps,
        waiting=desk.writer.waiting,
        serving={} if serving is None else {serving.version: 1},
        at_hand={} if care is None else {care.named.version: 1},
        failed=dict(counters.failed),
        rescued=dict(counters.rescued),
    )
    if challenger is None:
        return found
    return msgspec.structs.replace(
        found,
        challenger=challenger.challenge.version,
        share=challenger.challenge.share,
        answers=challenger.faults.answers,
        faults=challenger.faults.faults,
    )


class _Collector:
    """The counts of a server, and how its pipeline stands."""

    def __init__(
        self, name: str, counts: Counts, standing: State | None, steps: Steps | None
    ) -> None:
        self._name, self._counts = name, counts
        self._standing, self._steps = standing, steps

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        requests = CounterMetricFamily(
            "keepfit_requests", "Requests, by route and status.", labels=["route", "status"]
        )
        for route, found in sorted(counts.requests.items()):
            for status, count in sorted(found.items()):
                requests.add_metric([route, str(status)], count)
        yield requests
        yield self._latency()
        yield CounterMetricFamily(
            "keepfit_rows_answered", "Rows that were answered.", value=counts.rows
        )
        yield CounterMetricFamily(
            "keepfit_swaps", "Versions that began to serve, in all workers.", value=counts.swaps
        )
        yield GaugeMetricFamily(
            "keepfit_waiting_entries", "Entries that wait for the disk.", value=counts.waiting
        )
        yield from self._workers()
        yield from self._failed()
        yield from self._challenger()
        yield GaugeMetricFamily(
            "keepfit_facts_read",
            "Whether the ledger could be read.",
            value=float(self._standing is not None),
        )
        now = WallClock().now()
        if self._standing is not None:
            yield from gauges.families(self._name, self._standing, now)
        if self._steps is not None:
            yield from gauges.stepping(self._name, self._steps, now)

    def _workers(self) -> Iterator[Metric]:
        for name, what, found in (
            ("keepfit_serving", "Workers in which a version serves.", self._counts.serving),
            (
                "keepfit_at_hand",
                "Workers in which a version answers where the champion fails.",
                self._counts.at_hand,
            ),
        ):
            told = GaugeMetricFamily(name, what, labels=["pipeline", "version"])
            for version, workers in sorted(found.items()):
                told.add_metric([self._name, version], workers)
            yield told

    def _failed(self) -> Iterator[Metric]:
        counts = self._counts
        for name, what, found in (
            ("keepfit_requests_failed", "Requests that a version failed.", counts.failed),
            (
                "keepfit_requests_rescued",
                "Those of them that the version before it answered.",
                counts.rescued,
            ),
        ):
            told = CounterMetricFamily(name, what, labels=["pipeline", "version"])
            for version, count in sorted(found.items()):
                told.add_metric([self._name, version], count)
            yield told

    def _challenger(self) -> Iterator[Metric]:
        counts = self._counts
        if not counts.challenger:
            return
        named = [self._name, counts.challenger]
        labels = ["pipeline", "version"]
        share = GaugeMetricFamily(
            "keepfit_rollout_share", "Share of units that a challenger answers.", labels=labels
        )
        share.add_metric(named, counts.share)
        yield share
        for what, count in (("answers", counts.answers), ("faults", counts.faults)):
            found = CounterMetricFamily(
                f"keepfit_challenger_{what}", f"Its {what} in all workers.", labels=labels
            )
            found.add_metric(named, count)
            yield found

    def _latency(self) -> Metric:
        counts = self._counts
        latency = HistogramMetricFamily(
            "keepfit_request_seconds", "Seconds from request to answer.", labels=["route"]
        )
        for route, each in sorted(counts.buckets.items()):
            total, buckets = 0, []
            for edge, count in zip((*map(str, EDGES), "+Inf"), each, strict=True):
                total += count
                buckets.append((edge, float(total)))
            latency.add_metric([route], buckets, counts.seconds[route])
        return latency


def endpoint(
    desk: Desk, office: Office, access: Access, tally: Tally
) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler that shows the metrics of the whole server and of its pipeline."""

    async def shown(request: Request) -> Response:
        from keepfit.server.app import response

        caller = access.admit(request.scope["headers"], request.scope["client"], "read")
        if isinstance(caller, Reply):
            return response(caller)
        standing = steps = None
        with suppress(Exception):  # without the ledger there is still what was counted
            steps = await office.stepping()  # which says what keeps the facts from being read
            standing = await office.standing()
        registry = CollectorRegistry()
        registry.register(_Collector(desk.name, tally.total(), standing, steps))
        return Response(generate_latest(registry), media_type=TEXT)

    return shown
