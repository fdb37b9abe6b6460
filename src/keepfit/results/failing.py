"""Trainings or steps that fail in a row, and labels that none learns: what keeps a champion old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from keepfit.ledger.steps import Steps
from keepfit.registry import State
from keepfit.results import page
from keepfit.results.sentences import counted

IN_A_ROW = 2
"""Failures in a row from which trainings are said to fail: a single one may be bad luck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """The trainings since the last one that ended with a model: how many, since when, and why."""

    trainings: int
    since: datetime
    version: str
    message: str

    @classmethod
    def of(cls, state: State) -> Failing | None:
        """Return what fails in a row; None where the last training did not, or it alone did."""
        again = {one.retry_of for one in state.versions.values()}
        ended = [
            one
            for one in reversed(state.versions.values())
            if one.name not in again and (one.artifact or one.state == "failed")
        ]
        failed = []
        for one in ended:
            if one.state != "failed":
                break
            failed.append(one)
        if len(failed) < IN_A_ROW:
            return None
        return cls(
            trainings=len(failed),
            since=failed[-1].started_at,
            version=failed[0].name,
            message=failed[0].message.split("\n\n")[0],
        )

    def lines(self) -> list[str]:
        """Return it as a person reads it."""
        many = counted(self.trainings, "training")
        return [
            f"{many} in a row, since {page.day(self.since)}; {self.version}: {self.message}",
            f"`keepfit why {self.version}` says more",
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """The steps that the loop did not come through since the last that it did: how many, and why."""

    steps: int
    since: datetime | None
    done_at: datetime | None
    message: str

    @classmethod
    def of(cls, steps: Steps | None) -> Stuck | None:
        """Return how the loop is stuck; None where it is not, or nobody knows."""
        if steps is None or not steps.stuck:
            return None
        return cls(
            steps=steps.failed, since=steps.since, done_at=steps.done_at, message=steps.error
        )

    def lines(self) -> list[str]:
        """Return it as a person reads it."""
        times = f"{self.steps:,} times in a row"
        return [
            f"does not come through a step, {times}, since {page.day(self.since)}: {self.message}",
            "what is answered is kept, nothing lands; the server's log says more, `keepfit run FILE "
            "--once` tries a step",
        ]


def unlearnt(labels: Mapping[str, int]) -> str:
    """Return how many rows were left out for their label, or ``""``.

    Examples
    --------
    >>> unlearnt({"7": 1, "9": 2})
    '3 rows whose label is no class yet: 2 × `9`, 1 × `7`'
    """
    if not labels:
        return ""
    ordered = sorted(labels.items(), key=lambda one: (-one[1], one[0]))
    which = ", ".join(f"{n:,} × `{name[:40]}`" for name, n in ordered[:3])
    rest = ", …" if len(ordered) > 3 else ""
    return f"{counted(sum(labels.values()), 'row')} whose label is no class yet: {which}{rest}"
