"""What a server counts, cheaply enough to do it for every request."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keepfit.server.replies import Reply, Send

EDGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds at which latency is cut into buckets."""


class Counters:
    """Requests by route and status, how long they took, and how many and rows were answered.

    ``failed`` requests are those that a version should have answered and did not, by version;
    ``rescued`` those among them that the version before it answered.
    """

    def __init__(self) -> None:
        self.answered = self.rows = 0
        self.failed: dict[str, int] = {}
        self.rescued: dict[str, int] = {}
        self.requests: dict[tuple[str, int], int] = {}
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def timed(self, route: str, send: Send) -> Send:
        """Return what sends a reply and counts it, with the time since now."""
        start = time.perf_counter()

        def counted(reply: Reply) -> None:
            send(reply)
            self.count(route, reply.status, time.perf_counter() - start)

        return counted

    def fail(self, version: str, *, rescued: bool = False) -> None:
        """Count a request that a version failed, and whether it was answered all the same."""
        self.failed[version] = self.failed.get(version, 0) + 1
        if rescued:
            self.rescued[version] = self.rescued.get(version, 0) + 1

    def deny(self, status: int) -> None:
        """Count a request of somebody who may not ask, whose time says nothing of the server."""
        key = "denied", status
        self.requests[key] = self.requests.get(key, 0) + 1

    def count(self, route: str, status: int, took: float) -> None:
        """Count a request."""
        key = route, status
        self.requests[key] = self.requests.get(key, 0) + 1
        buckets = self.buckets.get(route)
        if buckets is None:
            buckets = self.buckets[route] = [0] * (len(EDGES) + 1)
        buckets[bisect_left(EDGES, took)] += 1
        self.seconds[route] = self.seconds.get(route, 0.0) + took
