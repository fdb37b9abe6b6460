"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from starlette.requests import Request
from starlette.responses import Response

from keepfit.server.counters import EDGES
from keepfit.server.replies import Reply

if TYPE_CHECKING:
    from keepfit.server.access import Access
    from keepfit.server.desk import Desk
    from keepfit.server.office import Office

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[Metric]:
        desk, counters = self._desk, self._desk.counters
        requests = CounterMetricFamily(
            "keepfit_requests", "Requests, by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(counters.requests.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        yield self._latency()
        yield CounterMetricFamily(
            "keepfit_rows_answered", "Rows that were answered.", value=counters.rows
        )
        yield CounterMetricFamily(
            "keepfit_swaps",
            "Versions that began to serve in this worker.",
            value=desk.follower.swaps,
        )
        yield GaugeMetricFamily(
            "keepfit_waiting_entries", "Entries that wait for the disk.", value=desk.writer.waiting
        )
        serving = GaugeMetricFamily(
            "keepfit_serving", "The version that serves.", labels=["pipeline", "version"]
        )
        if desk.follower.current is not None:
            serving.add_metric([desk.name, desk.follower.current.version], 1)
        yield serving
        yield from self._challenger()

    def _challenger(self) -> Iterator[Metric]:
        challenger = self._desk.follower.challenger
        if challenger is None:
            return
        named = [self._desk.name, challenger.challenge.version]
        labels = ["pipeline", "version"]
        share = GaugeMetricFamily(
            "keepfit_rollout_share", "Share of units that a challenger answers.", labels=labels
        )
        share.add_metric(named, challenger.challenge.share)
        yield share
        for what, count in (
            ("answers", challenger.faults.answers),
            ("faults", challenger.faults.faults),
        ):
            counted = CounterMetricFamily(
                f"keepfit_challenger_{what}", f"Its {what} in this worker.", labels=labels
            )
            counted.add_metric(named, count)
            yield counted

    def _latency(self) -> Metric:
        counters = self._desk.counters
        latency = HistogramMetricFamily(
            "keepfit_request_seconds", "Seconds from request to answer.", labels=["route"]
        )
        for route, counts in sorted(counters.buckets.items()):
            total, buckets = 0, []
            for edge, count in zip((*map(str, EDGES), "+Inf"), counts, strict=True):
                total += count
                buckets.append((edge, float(total)))
            latency.add_metric([route], buckets, counters.seconds[route])
        return latency


def endpoint(
    desk: Desk, office: Office, access: Access
) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler that shows the metrics of this worker."""
    registry = CollectorRegistry()
    registry.register(_Collector(desk))

    async def shown(request: Request) -> Response:
        from keepfit.server.app import response

        caller = access.admit(request.scope["headers"], request.scope["client"], "read")
        if isinstance(caller, Reply):
            return response(caller)
        return Response(generate_latest(registry), media_type=TEXT)

    return shown
