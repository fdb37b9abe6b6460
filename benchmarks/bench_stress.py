"""A server under stress: versions that change, processes that are killed, events that come then.

What servers go through is that of the stories in `tests/`; here it is written down.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import polars as pl
from peers.report import table

sys.path.append(str(Path(__file__).parents[1]))

from tests.stories.test_serving import Home, Server
from tests.stress import CONNECTIONS, TREES, Killed, Swapped, killed, swapped
from tests.waits import until
from tests.worlds import stream

from keepfit.ledger import Ledger

TIMES = 100
EVENTS = 20


def main(*, quick: bool = False) -> list[str]:
    """Return the lines of the report."""
    times, events = (4, 3) if quick else (TIMES, EVENTS)
    with tempfile.TemporaryDirectory(prefix="keepfit-stress-") as folder:
        homes = [Path(folder) / name for name in ("swaps", "kills", "events")]
        for home in homes:
            home.mkdir()
        blocks, calm = (2, 0.5) if quick else (10, 3.0)
        found = swapped(Home(homes[0], TREES).trained(), times, blocks=blocks, quiet=calm)
        ended = killed(Home(homes[1], trees=5).trained(), times, random.Random(7))
        told = heard(Home(homes[2], trees=5).trained(), events)
    return [
        "## Serving, under stress",
        "",
        "Server, load and loop share this machine's cores; the load is in Python.",
        "",
        *_swaps(found),
        *_kills(ended),
        *_events(told),
    ]


@dataclass
class Heard:
    """Seconds from the answer to an event until the ledger has it, and until its training begins."""

    known: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    promoted: int = 0


def heard(home: Home, count: int) -> Heard:
    """Return how long events take to the ledger, and until the training that they ask for begins.

    Each comes as soon as the training of the one before was judged: where it was promoted, while
    the server tries and loads it.
    """
    heard = Heard()
    with home.running("up") as server, Ledger(home.folder / ".keepfit" / "ledger.db") as ledger:
        for number in range(count):
            kinds = ("Signalled", "TrainingStarted", "Judged")
            before = {kind: len(ledger.facts("churn", kind=kind)) for kind in kinds}
            since = _sent(server, number)
            _until_more(ledger, "Signalled", before["Signalled"])
            heard.known.append(time.perf_counter() - since)
            _until_more(ledger, "TrainingStarted", before["TrainingStarted"])
            heard.begun.append(time.perf_counter() - since)
            _until_more(ledger, "Judged", before["Judged"])
        heard.promoted = len(ledger.facts("churn", kind="Promoted")) - 1
    return heard


def _sent(server: Server, number: int) -> float:
    """Send rows to learn from and an event, and return when the event was acknowledged."""
    ids = pl.int_range(pl.len()) + 1_000_000 * (number + 1)
    rows = stream(21 + number).tail(100).drop("time").with_columns(id=ids)
    server.ask("POST", "/rows/churn", rows.to_dicts())
    event = {"specversion": "1.0", "id": str(number), "source": "shop", "type": "prices"}
    server.ask("POST", "/events", event)
    return time.perf_counter()


def _until_more(ledger: Ledger, kind: str, known: int) -> None:
    until(lambda: len(ledger.facts("churn", kind=kind)) > known)


def _swaps(found: Swapped) -> list[str]:
    quiet, busy = median(found.quiet), median(found.busy)
    return [
        f"### {found.swaps} promotions and rollbacks, {CONNECTIONS} busy connections",
        "",
        *table(
            ("answers", "failed", "of another version", "p99 quiet", "p99 meanwhile", "ratio"),
            [
                (
                    f"{found.answers:,}",
                    len(found.failed),
                    len(found.wrong),
                    f"{1e3 * quiet:.1f} ms ({_range(found.quiet)})",
                    f"{1e3 * busy:.1f} ms ({_range(found.busy)})",
                    f"**{busy / quiet:.2f}×**",
                )
            ],
        ),
        "",
        f"Medians of {len(found.quiet)} and {len(found.busy)} windows, with the least and the most.",
        "",
    ]


def _range(seconds: Sequence[float]) -> str:
    return f"{1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f}"


def _kills(found: Killed) -> list[str]:
    who = ", ".join(f"{name} {count}" for name, count in sorted(found.kills.items()))
    return [
        f"### {found.kills.total()} times SIGKILL under load: {who}",
        "",
        *table(
            ("", "acknowledged", "in the lake as told", "lost"),
            [
                (kind, f"{count:,}", f"{count - len(found.lost[kind]):,}", len(found.lost[kind]))
                for kind, count in found.told.items()
            ],
        ),
        "",
        f"Rows that the lake has more than once: {found.doubled}.",
        "",
    ]


def _events(found: Heard) -> list[str]:
    rows = [("it is in the ledger", found.known), ("its training begins", found.begun)]
    return [
        f"### {len(found.known)} events, each as soon as the training before was judged",
        "",
        *table(
            ("from the answer to the event until", "median", "most"),
            [(name, f"{median(each):.2f} s", f"{max(each):.2f} s") for name, each in rows],
        ),
        "",
        f"Of the trainings {found.promoted} made another champion, which the server tried meanwhile.",
        "",
    ]


if __name__ == "__main__":
    print("\n".join(main(quick="--quick" in sys.argv)))
