"""How measurements of tools are asked for and written: the same in every table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peers import Silent, Tool, say

Answer = dict[str, Any] | Silent


def asked(tool: Tool, *question: object, about: str, timeout: float) -> Answer:
    """Return a tool's answer, or why there is none."""
    say(f"{tool.label.replace('**', '')}: {about}")
    try:
        return tool.ask(*question, timeout=timeout)
    except Silent as silent:
        return silent


def cell(answer: Answer, ours: Answer, show: Callable[[float], str], what: str = "wall") -> str:
    """Return one number with its ratio to keepfit's; a dash where there is none."""
    if isinstance(answer, Silent):
        return "–"
    value = answer[what]
    if isinstance(ours, Silent) or answer is ours or not ours[what]:
        return show(value)
    return f"{show(value)} ({ratio(value / ours[what])})"


def ratio(times: float) -> str:
    """Return how many times as much, in as many digits as mean something."""
    return f"{times:.0f}×" if times >= 10 else f"{times:.2g}×"


def seconds(value: float) -> str:
    """Return seconds in as many digits as mean something; a dash for what takes none."""
    if value < 1e-4:
        return "–"
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def milliseconds(value: float) -> str:
    """Return seconds as milliseconds."""
    return f"{1000 * value:,.3g} ms" if value < 1 else f"{1000 * value:,.0f} ms"


def peak(answer: Answer) -> str:
    """Return the peak of memory in MB."""
    known = not isinstance(answer, Silent) and answer["peak"] is not None
    return f"{answer['peak']:,.0f}" if known else "–"


def repeats(answer: Answer) -> str:
    """Return how often was measured."""
    return "–" if isinstance(answer, Silent) else str(answer["repeats"])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]
