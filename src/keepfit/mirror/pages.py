"""What MLflow is told of each version, made of the facts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit import facts
from keepfit.registry import State

if TYPE_CHECKING:
    from keepfit.facts import Entry
    from keepfit.registry import Version

ALIASES = ("champion", "challenger", "previous")
LONGEST = 4000
"""Characters of a tag or a parameter; MLflow takes 5,000 of a model version's tag."""

_ABOUT_ROWS = facts.Arrived.__module__
_UNUSUAL = re.compile(r"[^\w.\- /]")


class Measured(NamedTuple):
    """A figure of a version at a moment, and the fact that holds it."""

    seq: int
    key: str
    value: float
    at: datetime
    step: int


class Page:
    """A version as MLflow is told of it: ``touched`` is the newest fact about it."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.touched = 0
        self.reasons: dict[str, str] = {}
        self.measured: list[Measured] = []

    @property
    def name(self) -> str:
        """The version's name."""
        return self.version.name

    def params(self) -> dict[str, str]:
        """Return what the training was given: the recipe, and the learner's parameters."""
        version = self.version
        recipe = {
            "challenger": version.challenger,
            "selection": version.snapshot.selection,
            "rows": version.snapshot.rows,
            "start": version.start,
            "update": version.update,
            "seed": version.seed,
        }
        given = {key: _value(value) for key, value in version.parameters.items()}
        return {_key(k): v for k, v in given.items() if v} | {
            f"recipe.{key}": _value(value) for key, value in recipe.items()
        }

    def tags(self, pipeline: str) -> dict[str, str]:
        """Return what is known of the version in words; empty texts are left out."""
        version = self.version
        told = {
            "pipeline": pipeline,
            "version": version.name,
            "digest": version.artifact,
            "state": version.state,
            "parent": version.parent or "",
            "trigger": version.trigger,
            "snapshot": version.snapshot.digest,
            "trained_to": version.snapshot.to.isoformat(),
            "code": version.code,
            "origin": "" if version.origin is None else version.origin.uri,
            **self.reasons,
        }
        return {f"keepfit.{key}": _cut(value) for key, value in told.items() if value}

    def since(self, seq: int) -> list[Measured]:
        """Return the figures of facts after a number."""
        return [one for one in self.measured if one.seq > seq]

    def measure(self, entry: Entry, figures: dict[str, float | None], step: int = 0) -> None:
        """Take in figures of a fact; those that are not finite are left out."""
        for key, value in figures.items():
            if value is not None and math.isfinite(value):
                self.measured.append(Measured(entry.seq, _key(key), value, entry.at, step))


class Book:
    """The pages of a pipeline, which hears its facts in their order."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.state = State()
        self._pages: dict[str, Page] = {}

    @property
    def seq(self) -> int:
        """The newest fact that was heard."""
        return self.state.seq

    def hear(self, entry: Entry) -> None:
        """Take in the next fact."""
        fact = entry.fact
        # Facts about rows, which are most of them, change no version's state.
        watched = set() if type(fact).__module__ == _ABOUT_ROWS else self._held()
        before = {name: self._state(name) for name in watched}
        self.state.fold([entry])
        if isinstance(fact, facts.Trained | facts.Adopted):
            self._pages[fact.version] = Page(self.state.versions[fact.version])
        page = self._pages.get(getattr(fact, "version", ""))
        if page is not None:
            _take(page, entry)
        # A fact about one version may end what others were: champion, waiting, rolling out.
        for name, state in before.items():
            if state != self._state(name):
                self._pages[name].touched = entry.seq

    def pages(self) -> Iterator[Page]:
        """Yield the pages of versions that have a model, oldest first."""
        yield from self._pages.values()

    def aliases(self) -> dict[str, str]:
        """Return which version holds each alias."""
        state = self.state
        held = {
            "champion": state.champion,
            "challenger": state.waiting or state.request or state.rollout,
            "previous": state.previous,
        }
        found = {alias: state.version(alias).name for alias in ALIASES if held[alias]}
        return {alias: name for alias, name in found.items() if name in self._pages}

    def _held(self) -> set[str]:
        """Return the versions whose state may change with a fact about another."""
        state = self.state
        names = {*self.aliases().values(), *state.waiting}
        if state.rollout is not None:
            names.add(state.rollout.fact.version)
        return names & self._pages.keys()

    def _state(self, name: str) -> str:
        return self.state.versions[name].state


def _take(page: Page, entry: Entry) -> None:
    """Write a fact about a version on its page."""
    fact = entry.fact
    page.touched = entry.seq
    if isinstance(fact, facts.Trained):
        cost = fact.cost
        page.measure(
            entry,
            {
                "cost.cpu_seconds": cost.cpu_seconds,
                "cost.wall_seconds": cost.wall_seconds,
                "cost.peak_bytes": float(cost.peak_bytes),
            },
        )
    elif isinstance(fact, facts.Judged):
        _judged(page, entry, fact)
    elif isinstance(fact, facts.Scored):
        page.measure(entry, {f"live.{fact.metric}": fact.value}, fact.batch)
    elif isinstance(fact, facts.Estimated):
        page.measure(entry, {f"estimated.{fact.metric}": fact.value}, fact.batch)
    elif isinstance(fact, facts.Promoted):
        page.reasons |= {"promoted": fact.reason, "promoted_by": fact.by}
    elif isinstance(fact, facts.RolledBack):
        page.reasons |= {"rolled_back": fact.reason, "rolled_back_by": fact.by}


def _judged(page: Page, entry: Entry, fact: facts.Judged) -> None:
    where = fact.during.replace(" ", "_") or "gate"
    said = "; ".join(f"{one.gate}: {one.reason}" for one in fact.verdicts)
    page.reasons[where] = f"{fact.answer}: {said}"
    named = fact.metric or "metric"
    figures = {f"{where}.{named}": fact.value, f"{where}.champion_{named}": fact.champion_value}
    for verdict in fact.verdicts:
        if verdict.slice is None:
            figures[f"{where}.{verdict.gate}"] = verdict.value
    page.measure(entry, figures, fact.look)


def _key(text: str) -> str:
    """Return a name as MLflow takes it, of which it takes 250 characters."""
    return _UNUSUAL.sub("_", text)[:250]


def _value(value: Any) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
