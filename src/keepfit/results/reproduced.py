"""What training a version again gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keepfit.costs import took
from keepfit.facts import Cost
from keepfit.results import page
from keepfit.results.diff import MISSING, Difference
from keepfit.results.sentences import counted, figure

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reproduced:
    """How a version trained again from its record compares with the one kept.

    ``same`` says that both are the same to the byte. Else ``furthest`` is the greatest
    distance between two answers on the ``compared`` rows, and ``changed`` the share of rows
    with another answer (another class, or another number); both are None where the models
    do not answer in the same form. ``differences`` names what is not as it was then.
    """

    pipeline: str
    version: str
    rows: int
    same: bool
    compared: int
    furthest: float | None
    changed: float | None
    differences: tuple[Difference, ...]
    before: Cost
    now: Cost

    @property
    def reproduced(self) -> bool:
        """Whether both answer alike: the same bytes, or the same scores on every row compared."""
        return self.same or self.furthest == 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON can hold it."""
        names = ("pipeline", "version", "rows", "same", "compared", "furthest", "changed")
        told = {name: getattr(self, name) for name in names}
        told["reproduced"] = self.reproduced
        told["differences"] = [
            {"part": one.part, "name": one.name, "then": one.a, "now": one.b}
            for one in self.differences
        ]
        told["cost"] = {"then": self.before, "now": self.now}
        plain: dict[str, Any] = page.plain(told)
        return plain

    def to_frame(self) -> pl.DataFrame:
        """Return one row per difference."""
        import polars as pl

        found = [
            {"part": one.part, "name": one.name, "then": str(one.a), "now": str(one.b)}
            for one in self.differences
        ]
        return pl.DataFrame(found, schema=dict.fromkeys(("part", "name", "then", "now"), pl.String))

    def __repr__(self) -> str:
        head = f"{self.pipeline} · {self.version} trained again on {counted(self.rows, 'row')}"
        body = page.rows(
            [
                ("answers", [self._answers()]),
                ("differs", self._differs()),
                ("cost", [self._cost()]),
            ]
        )
        return f"{head}\n\n{body}"

    def _answers(self) -> str:
        if self.same:
            return "the same model, to the byte"
        if self.furthest is None or self.changed is None:
            if not self.compared:
                return "not to be compared: the one kept answers none of the rows as they are now"
            return "not to be compared: the models answer in different forms"
        where = f"on {counted(self.compared, 'row')}"
        if self.furthest == 0.0:
            return f"the same score on each of {counted(self.compared, 'row')}, from other bytes"
        return f"{self.changed:.2%} other answers {where}; scores differ by up to {figure(self.furthest)}"

    def _differs(self) -> list[str]:
        if not self.differences:
            return ["nothing: rows, code, parameters and packages are as they were"]
        return [
            f"{one.part}: {one.name} was {_shown(one.a)}, is {_shown(one.b)}"
            for one in self.differences
        ]

    def _cost(self) -> str:
        then, now = (took(one.cpu_seconds) for one in (self.before, self.now))
        return f"{now} of CPU, {then} then"


def _shown(value: Any) -> str:
    return MISSING if value is None else str(value)
