"""Worth against cost, drawn in text."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import NamedTuple

MARKS = string.ascii_lowercase + string.ascii_uppercase
"""Letters that stand for policies."""

WIDTH = 64
HEIGHT = 14

LEAST = 1e-3
"""Seconds below which costs are drawn as the same."""


class Point(NamedTuple):
    """A mark at a cost in seconds and a worth."""

    mark: str
    cost: float
    value: float


def drawn(points: Sequence[Point], *, greater_is_better: bool = True) -> str:
    """Return points as text: cost to the right by powers of ten, what is better further up.

    A later point is drawn over the best in hindsight (``·``); where another letter lies
    already it goes beside it.

    Examples
    --------
    >>> print(drawn([Point("a", 1, 0.5), Point("b", 100, 0.9)]).splitlines()[0].rstrip()[-1])
    b
    """
    costs = [math.log10(max(point.cost, LEAST)) for point in points]
    values = [point.value if greater_is_better else -point.value for point in points]
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for point, cost, value in zip(points, costs, values, strict=True):
        column = _place(cost, min(costs), max(costs), WIDTH)
        row = HEIGHT - 1 - _place(value, min(values), max(values), HEIGHT)
        _put(grid[row], column, point.mark)
    top, bottom = max(values), min(values)
    lines = []
    for place, cells in enumerate(grid):
        shown = top - (top - bottom) * place / (HEIGHT - 1)
        label = f"{abs(shown) if not greater_is_better else shown:8.4g}"
        edge = label if place in (0, HEIGHT // 2, HEIGHT - 1) else " " * 8
        lines.append(f"{edge} │{''.join(cells)}".rstrip())
    low, high = (f"{max(f(point.cost for point in points), LEAST):.3g} s" for f in (min, max))
    lines.append(f"{'':8} └{'─' * WIDTH}")
    lines.append(f"{'':9} {low}{high:>{WIDTH - len(low)}}")
    return "\n".join(lines)


def _place(value: float, low: float, high: float, cells: int) -> int:
    if not high > low:
        return cells // 2
    return round((value - low) / (high - low) * (cells - 1))


def _put(row: list[str], column: int, mark: str) -> None:
    """Put a mark where it belongs, or into the nearest cell that is free."""
    if mark == "·":
        row[column] = mark if row[column] == " " else row[column]
        return
    free = [place for place, cell in enumerate(row) if cell in " ·"]
    if free:
        row[min(free, key=lambda place: (abs(place - column), -place))] = mark
