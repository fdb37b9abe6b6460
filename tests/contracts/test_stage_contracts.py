"""Every built-in check, detector, trigger and selection keeps the contract of its door."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

from keepfit import checks, drift, selection, triggers
from keepfit.facts import ColumnDrift, Decision, Finding
from keepfit.protocols import Check, Detector, Evidence, Moment, Reference, Selection, Trigger
from keepfit.testing import check_check, check_detector, check_selection, check_trigger

CHECKS: list[Check] = [
    checks.Schema(),
    checks.Schema(categories="block", severity="warn"),
    checks.Fresh("6h"),
    checks.Volume(rows=10),
    checks.Nulls(),
    checks.Nulls(0.1, columns=["number", "gone"]),
    checks.Range(),
    checks.Range({"number": (-1, 1), "text": (0, 1)}),
    checks.Unique(),
    checks.Leakage(),
    checks.Classes(),
]
DETECTORS: list[Detector] = [
    drift.Columns(),
    drift.KS(),
    drift.JensenShannon(),
    drift.PSI(),
    drift.ChiSquare(),
    drift.Wasserstein(),
    drift.Alarms(),
    drift.DomainClassifier(),
    drift.MMD(),
    drift.PCA(),
    drift.ADWIN(on="number"),
    drift.KSWIN(on="number"),
    drift.PageHinkley(threshold=500, on="number"),
    drift.DDM(),
    drift.EDDM(),
    drift.HDDM_A(),
    drift.HDDM_W(),
    drift.Columns(limit=0.3, exclude=["whole"]),
]
TRIGGERS: list[Trigger] = [
    triggers.Every("28d"),
    triggers.Every("0 3 * * 1"),
    triggers.EachStep(),
    triggers.AfterRows(100),
    triggers.AfterRows(100, labelled=True),
    triggers.OnEvent(),
    triggers.OnEvent("new_prices"),
    triggers.OnDrift(),
    triggers.OnDrift(drift.KS(), at_least=2),
    triggers.OnDecay(),
    triggers.OnDecay(0.1, alarms="1 per 7d"),
    triggers.OnRelevance(),
    triggers.OnRelevance(2_000, share=0.5),
    triggers.Pays(),
    triggers.Pays(per_error=2.0, per_cpu_second=0.1, cost="log_loss"),
    triggers.Every("7d") & ~triggers.OnEvent(),
    triggers.AtLeast(2, triggers.Every("7d"), triggers.OnDrift(), triggers.OnDecay()),
    triggers.Guarded(triggers.default(), cooldown="7d", budget="9s per 30d", max_age="20d"),
]
SELECTIONS: list[Selection] = [
    selection.Expanding(),
    selection.Expanding(at_most=7),
    selection.Sliding("1d"),
    selection.SinceLast(),
    selection.SinceChange(),
    selection.Replay(),
    selection.Replay(new=0.3, buffer=20, at_most=50),
    selection.Relevant(),
    selection.Relevant(0.3, of=selection.Sliding("2d"), at_most=50),
]


def exported(module: Any) -> set[str]:
    """Return the classes a module shows that can be made without being joined."""
    joined = {"Rule", "AnyOf", "AllOf", "Not", "Univariate"}
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__.startswith(module.__name__)
        and not name.startswith("_")
        and name not in joined
    }


@pytest.mark.parametrize("check", CHECKS, ids=repr)
def test_a_check_keeps_its_contract(check: Check) -> None:
    check_check(check)


@pytest.mark.parametrize("detector", DETECTORS, ids=repr)
def test_a_detector_keeps_its_contract(detector: Detector) -> None:
    check_detector(detector)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=repr)
def test_a_trigger_keeps_its_contract(trigger: Trigger) -> None:
    check_trigger(trigger)


@pytest.mark.parametrize("chosen", SELECTIONS, ids=repr)
def test_a_selection_keeps_its_contract(chosen: Selection) -> None:
    check_selection(chosen)


def test_no_built_in_class_is_left_out() -> None:
    made = {type(one).__name__ for one in [*CHECKS, *DETECTORS, *TRIGGERS, *SELECTIONS]}
    results = {"DriftReport", "Measured", "Movement", "Progress", "Reference", "Stream"}
    for module in (checks, drift, triggers, selection):
        assert exported(module) <= made | results


# The contracts can fail: each of these breaks one promise.


class Silent:
    name = "Silent"

    def check(self, batch: Any, context: Any) -> Sequence[Finding]:
        return ()


class Unstorable:
    name = "Unstorable"

    def check(self, batch: Any, context: Any) -> Sequence[Finding]:
        from keepfit.facts import Outcome

        return [Finding(check="c", outcome=Outcome.PASS, message="m", value=float("nan"))]


@pytest.mark.parametrize(
    "check", [Silent(), Unstorable(), object()], ids=["silent", "unstorable", "no check"]
)
def test_a_check_that_breaks_its_contract_is_caught(check: Any) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_check(check)


@dataclass
class Alarmed:
    value: float
    name: str = "Alarmed"

    def check(self, reference: Reference, rows: pl.DataFrame) -> Sequence[ColumnDrift]:
        return [
            ColumnDrift(column=one.name, method="m", value=self.value, limit=0.1)
            for one in reference.profile.columns
        ]


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_detector_that_is_always_quiet_always_loud_or_no_number_is_caught(value: float) -> None:
    with pytest.raises(AssertionError):
        check_detector(Alarmed(value))


@dataclass
class Remembering:
    seen: list[Evidence] = field(default_factory=list)

    def decide(self, evidence: Evidence) -> Decision:
        self.seen.append(evidence)
        return Decision(train=len(self.seen) % 2 == 0, trigger="t", reason="r")


def test_a_trigger_with_a_memory_is_caught() -> None:
    with pytest.raises(AssertionError, match="not the same twice"):
        check_trigger(Remembering())


class Silly:
    def __init__(self, how: str) -> None:
        self.how = how

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        if self.how == "random":
            return rows.sample(fraction=0.5, with_replacement=False).sort("_time", "_id")
        return {"turned": rows.reverse(), "twice": pl.concat([rows, rows]), "less": rows.drop("x")}[
            self.how
        ]


@pytest.mark.parametrize("how", ["turned", "twice", "less", "random"])
def test_a_selection_that_breaks_its_contract_is_caught(how: str) -> None:
    with pytest.raises(AssertionError):
        check_selection(Silly(how))
