"""What differs between two versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keepfit.registry import State, Version
from keepfit.results import page
from keepfit.results.sentences import counted, figure, lasted

if TYPE_CHECKING:
    import polars as pl

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two versions do not have in common."""

    part: str
    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Diff:
    """What differs between two versions: data, recipe, code, parameters, packages, metric, cost.

    ``same`` names the parts that do not differ at all.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    same: tuple[str, ...]

    @classmethod
    def of(cls, state: State, a: str, b: str) -> Diff:
        """Return what differs between two versions, named by version or alias.

        Raises
        ------
        NoChampion
            One of them is ``"champion"`` and nothing serves.
        VersionUnknown
            No version has one of the names.
        """
        old, new = state.version(a), state.version(b)
        parts = {title: list(_differ(title, of(old), of(new))) for title, of in _PARTS.items()}
        return cls(
            a=old.name,
            b=new.name,
            differences=tuple(one for found in parts.values() for one in found),
            same=tuple(title for title, found in parts.items() if not found),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the differences as JSON can hold them."""
        listed = [
            {"part": one.part, "name": one.name, "a": page.plain(one.a), "b": page.plain(one.b)}
            for one in self.differences
        ]
        return {"a": self.a, "b": self.b, "differences": listed, "same": list(self.same)}

    def to_frame(self) -> pl.DataFrame:
        """Return one row per difference: ``part``, ``name`` and both sides as text."""
        import polars as pl

        columns = {
            "part": [one.part for one in self.differences],
            "name": [one.name for one in self.differences],
            self.a: [_shown(one.a) for one in self.differences],
            self.b if self.b != self.a else f"{self.b} again": [
                _shown(one.b) for one in self.differences
            ],
        }
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))

    def __repr__(self) -> str:
        if not self.differences:
            return f"{self.a} and {self.b} do not differ"
        cells = [(one.part, one.name, _shown(one.a), _shown(one.b)) for one in self.differences]
        widths = [max(len(row[i]) for row in [("", "", self.a, self.b), *cells]) for i in range(4)]
        lines, before = (
            [f"  {'':<{widths[0]}}  {'':<{widths[1]}}  {self.a:<{widths[2]}}  {self.b}"],
            "",
        )
        for part, name, left, right in cells:
            title = "" if part == before else part
            lines.append(
                f"  {title:<{widths[0]}}  {name:<{widths[1]}}  {left:<{widths[2]}}  {right}"
            )
            before = part
        text = f"{self.a} → {self.b}\n\n" + "\n".join(line.rstrip() for line in lines)
        return f"{text}\n\n  the same: {', '.join(self.same)}" if self.same else text


def _differ(title: str, old: dict[str, Any], new: dict[str, Any]) -> Iterable[Difference]:
    for name in dict.fromkeys([*old, *new]):
        left, right = old.get(name), new.get(name)
        if left != right:
            yield Difference(title, name, left, right)


def _data(version: Version) -> dict[str, Any]:
    snapshot = version.snapshot
    return {
        "rows": snapshot.rows,
        "from": snapshot.from_,
        "to": snapshot.to,
        "digest": snapshot.digest[:8],
        "known by": snapshot.as_of,
        "in quarantine": ", ".join(map(str, snapshot.excluded)) or None,
    }


def _recipe(version: Version) -> dict[str, Any]:
    return {
        "challenger": version.challenger,
        "selection": version.snapshot.selection,
        "start": version.start,
        "update": version.update,
        "parent": version.parent,
        "seed": version.seed,
    }


def _features(version: Version) -> dict[str, Any]:
    return dict.fromkeys(version.features, "used")


def _judged(version: Version) -> dict[str, Any]:
    judged = version.judged
    if judged is None or judged.champion is None:
        return {}
    against = f"{judged.metric} against {judged.champion}"
    return {
        "verdict": judged.answer.value,
        "holdout": counted(judged.rows, "row"),
        str(judged.metric): judged.value,
        against: judged.champion_value,
    }


def _cost(version: Version) -> dict[str, Any]:
    cost = version.cost
    return {
        "CPU": lasted(cost.cpu_seconds) or None,
        "peak": f"{cost.peak_bytes / 2**20:,.0f} MiB" if cost.peak_bytes else None,
        "model": version.artifact[:8] or None,
    }


_PARTS = {
    "data": _data,
    "recipe": _recipe,
    "code": lambda version: {"fingerprint": version.code[:8] or None},
    "parameters": lambda version: dict(version.parameters),
    "packages": lambda version: dict(version.packages),
    "features": _features,
    "gate": _judged,
    "cost": _cost,
}


def _shown(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return figure(value)
    return page.day(value) if hasattr(value, "year") else str(value)
