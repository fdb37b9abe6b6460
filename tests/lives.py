"""Facts written by hand: the life of a pipeline, to fold, to tell and to ask about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from keepfit import facts
from keepfit.clock import utc
from keepfit.facts import Answer, Cost, Decision, Entry, Fact, Finding, Outcome, Verdict
from keepfit.registry import State

DAY = timedelta(days=1)
WEEK = 7 * DAY
START = utc("2024-01-01")


class Life:
    """Facts of one pipeline, appended as a loop would."""

    def __init__(self, name: str = "churn") -> None:
        self.name = name
        self.entries: list[Entry] = []
        self.batch = 0
        self.turn = 0

    def add(self, at: str | datetime, *new: Fact) -> Life:
        for fact in new:
            number = len(self.entries) + 1
            self.entries.append(Entry(pipeline=self.name, seq=number, at=utc(at), fact=fact))  # type: ignore[arg-type]
        return self

    def state(self) -> State:
        return State().fold(self.entries)

    def arrived(self, at: str | datetime, rows: int = 2_000, **more: Any) -> Life:
        self.batch += 1
        end = utc(at)
        fact = facts.Arrived(
            batch=self.batch,
            rows=rows,
            labels=rows,
            cursor=str(self.batch),
            digest="0" * 64,
            from_=end - WEEK,
            to=end - timedelta(hours=1),
            watermark=end,
            **more,
        )
        return self.add(at, fact)

    def checked(self, at: str | datetime, *findings: Finding) -> Life:
        listed = findings or (
            Finding(check="Schema", outcome=Outcome.PASS, message="41 columns, as before"),
        )
        return self.add(at, facts.Found(batch=self.batch, findings=listed))

    def scored(
        self, at: str | datetime, version: str, value: float, half: float = 0.01, n: int = 1_900
    ) -> Life:
        end = utc(at)
        return self.add(
            at,
            facts.Scored(
                batch=self.batch,
                version=version,
                metric="roc_auc",
                value=value,
                low=value - half,
                high=value + half,
                n=n,
                from_=end - WEEK,
                to=end - timedelta(hours=1),
            ),
        )

    def decided(self, at: str | datetime, decision: Decision) -> Life:
        if decision.train:
            self.turn += 1
        return self.add(
            at,
            facts.Decided(
                batch=self.batch,
                decision=decision,
                watermark=utc(at),
                turn=self.turn if decision.train else None,
            ),
        )

    def started(self, at: str | datetime, version: str, rows: int = 16_000, **more: Any) -> Life:
        values: dict[str, Any] = {
            "challenger": "Expanding",
            "start": "scratch",
            "update": "all",
            "seed": 0,
            "ready_at": utc(at),
            "key": "k" * 64,
        } | more
        snapshot = facts.Snapshot(
            batch=self.batch,
            as_of=utc(at),
            selection="Expanding()",
            rows=rows,
            digest="9c1fb2aa" * 8,
            from_=START,
            to=utc(at) - DAY,
        )
        return self.add(
            at, facts.TrainingStarted(version=version, turn=self.turn, snapshot=snapshot, **values)
        )

    def trained(self, at: str | datetime, version: str, seconds: float = 38.0, **more: Any) -> Life:
        values: dict[str, Any] = {
            "artifact": f"{int(version[1:]):064x}",
            "reference": "",
            "cost": Cost(cpu_seconds=seconds * 1.5, wall_seconds=seconds, peak_bytes=300 * 2**20),
            "code": "4be1d2a0" * 8,
            "parameters": {"n_estimators": 300, "learning_rate": 0.1},
            "packages": {"lightgbm": "4.7.0", "polars": "2.1.0"},
            "features": ("age", "plan_type", "tenure"),
        } | more
        return self.add(at, facts.Trained(version=version, **values))

    def judged(
        self,
        at: str | datetime,
        version: str,
        answer: Answer,
        value: float,
        half: float = 0.0015,
        *,
        champion: str = "v1",
        look: int = 1,
        **more: Any,
    ) -> Life:
        more_looks = f"; look {look} of 3" if answer == Answer.NOT_ENOUGH else ""
        interval = f"[{value - half:+.4f}, {value + half:+.4f}]"
        reason = f"{value:+.4f} {interval}, needs -0.0020{more_looks}"
        verdict = Verdict(
            gate="NoWorse(within=0.002)",
            answer=answer,
            reason=reason,
            value=value,
            low=value - half,
            high=value + half,
            needs=-0.002,
            rows=4_000,
        )
        return self.add(
            at,
            facts.Judged(
                version=version,
                answer=answer,
                verdicts=(verdict,),
                champion=champion,
                rows=4_000,
                look=look,
                metric="roc_auc",
                value=0.86 + value,
                champion_value=0.86,
                **more,
            ),
        )

    def promoted(
        self, at: str | datetime, version: str, previous: str | None = None, **more: Any
    ) -> Life:
        reason = more.pop("reason", "no champion yet")
        return self.add(
            at, facts.Promoted(version=version, previous=previous, reason=reason, **more)
        )


def yes(
    trigger: str = 'Every("30d")', reason: str = "due since 2024-01-31", **evidence: Any
) -> Decision:
    """Return a decision to train, as a joined trigger makes it."""
    fired = Decision(train=True, trigger=trigger, reason=reason, evidence=evidence)
    quiet = Decision(train=False, trigger="OnDecay()", reason="no decay in 4 windows")
    return Decision(
        train=True, trigger=f"{trigger} | OnDecay()", reason=reason, parts=(fired, quiet)
    )


def no(
    reason: str = "next due 2024-03-31, the last training was 2024-02-26", **evidence: Any
) -> Decision:
    """Return a decision not to train, as a joined trigger makes it."""
    return Decision(
        train=False,
        trigger='Every("30d") | OnDecay()',
        reason=reason,
        parts=(
            Decision(
                train=False,
                trigger='Every("30d")',
                reason=reason,
                evidence={"due": "2024-03-31"} | evidence,
            ),
            Decision(train=False, trigger="OnDecay()", reason="no decay in 4 windows"),
        ),
    )


def waiting(rows_to: str = "2024-03-09", labelled_to: str = "2024-02-24") -> Decision:
    """Return a decision that waits for labels of drifted rows."""
    labels = f"waiting for labels of the drifted rows to {rows_to}, labelled to {labelled_to}"
    reason = f"plan_type KS 0.31 (2 of 41 columns drifted); {labels}"
    part = Decision(
        train=False,
        trigger="OnDrift()",
        reason=reason,
        evidence={"waiting": True, "rows_to": rows_to},
    )
    return Decision(train=False, trigger="OnDrift() | OnDecay()", reason=reason, parts=(part,))


def churn() -> Life:
    """Return four months of a pipeline: four versions, one refused, drift, a broken batch."""
    life = Life()
    at = START
    for _ in range(4):
        at += WEEK
        life.arrived(at).checked(at).decided(
            at, no("no champion yet; the backtest starts on 2024-02-05")
        )
    at += WEEK
    life.arrived(at).checked(at).decided(at, yes("first", "no champion yet"))
    life.started(at, "v1", 9_800).trained(at, "v1").promoted(at, "v1")
    _weeks(life, at, 3, "v1", [0.871, 0.868, 0.866])
    at += 4 * WEEK
    life.arrived(at).checked(at, _warned()).scored(at, "v1", 0.861)
    life.decided(at, yes(evidence="5 weeks"))
    life.started(
        at, "v2", judged_from=at - 2 * WEEK, parent="v1", start="champion", update="leaves"
    )
    life.trained(at, "v2", 4.2).judged(at, "v2", Answer.REFUSE, -0.0041, champion="v1")
    at += WEEK
    life.arrived(at).checked(at, _warned(), _blocked())
    life.add(
        at,
        facts.Quarantined(
            batch=life.batch,
            rows=2_000,
            reason="plan_type: 100 % missing, limit 5 %; tenure below 0",
        ),
    )
    life.decided(at, no())
    at += WEEK
    life.arrived(at).checked(at).add(at, _drift(life.batch)).scored(at, "v1", 0.842).decided(
        at, waiting()
    )
    at += WEEK
    life.arrived(at).checked(at).scored(at, "v1", 0.838).decided(
        at, waiting(labelled_to="2024-03-02")
    )
    at += WEEK
    life.arrived(at).checked(at).scored(at, "v1", 0.836)
    life.decided(at, yes("OnDrift()", "plan_type KS 0.31 (2 of 41 columns drifted)"))
    life.started(at, "v3", 21_000, judged_from=at - WEEK).trained(at, "v3", 40)
    life.judged(at, "v3", Answer.PROMOTE, 0.0121, 0.004, champion="v1").promoted(
        at, "v3", "v1", reason="no worse"
    )
    _weeks(life, at, 2, "v3", [0.866, 0.868])
    at += 3 * WEEK
    life.arrived(at).checked(at).scored(at, "v3", 0.869).decided(
        at, yes(reason="due since 2024-04-28")
    )
    life.started(at, "v4", judged_from=at - WEEK).trained(at, "v4", 41)
    life.judged(at, "v4", Answer.NOT_ENOUGH, 0.0004, 0.02, champion="v3")
    return life


def _weeks(life: Life, at: datetime, count: int, version: str, values: Sequence[float]) -> None:
    for week in range(1, count + 1):
        now = at + week * WEEK
        life.arrived(now).checked(now).scored(now, version, values[week - 1]).decided(now, no())


def _warned() -> Finding:
    return Finding(
        check="Nulls",
        outcome=Outcome.WARN,
        message="minutes: 3.8 % missing, limit 5 %",
        column="minutes",
    )


def _blocked() -> Finding:
    return Finding(
        check="Nulls",
        outcome=Outcome.BLOCK,
        message="plan_type: 100 % missing, limit 5 %",
        column="plan_type",
    )


def _drift(batch: int) -> facts.Drifted:
    column = facts.ColumnDrift(column="plan_type", method="KS", value=0.31, limit=0.12)
    other = facts.ColumnDrift(column="tenure", method="KS", value=0.14, limit=0.12)
    return facts.Drifted(batch=batch, detector="KS()", columns=(column, other), of=41)


GOLDENS = Path(__file__).parent / "goldens"


def golden(name: str, text: str) -> None:
    """Compare a text with the kept one; ``KEEPFIT_GOLDENS=1`` keeps the new one instead."""
    path = GOLDENS / f"{name}.txt"
    shown = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if os.environ.get("KEEPFIT_GOLDENS"):
        path.write_text(shown, encoding="utf-8")
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    assert shown == kept, f"{path.name} differs; KEEPFIT_GOLDENS=1 rewrites it"
