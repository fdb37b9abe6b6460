"""Triggers and gates as a pipeline's file writes them."""

from __future__ import annotations

import ast
import re

from keepfit import drift, gates, triggers
from keepfit.protocols import Gate, Trigger

_ADDRESS = re.compile(r"<(?:[^<>\s]|<locals>)*?(\w+) object at 0x[0-9a-fA-F]+>")
_DRIFT = dict.fromkeys(drift.__all__, "drift")
_TRIGGERS = _DRIFT | dict.fromkeys(triggers.__all__, "triggers")
_GATES = _DRIFT | dict.fromkeys(gates.__all__, "gates")


def called(part: Trigger | Gate) -> str:
    """Return what a part is called: where one of the user's own lies in memory tells nothing.

    Examples
    --------
    >>> class Mine:
    ...     pass
    >>> called(Mine())
    'Mine()'
    """
    return _ADDRESS.sub(r"\1()", repr(part))


def code_of(part: Trigger | Gate) -> str | None:
    """Return the code of a part with its namespaces; None for one of the user's own making.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnDrift
    >>> code_of(Every("28d") | OnDrift(drift.ADWIN()))
    'triggers.Every("28d") | triggers.OnDrift(drift.ADWIN())'
    """
    spaces = _GATES if isinstance(part, Gate) else _TRIGGERS
    text = repr(part)
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return None
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if any(isinstance(node, ast.Attribute) for node in ast.walk(tree)):
        return None
    if not names or any(name.id not in spaces for name in names):
        return None
    encoded = text.encode()
    for name in sorted(names, key=lambda node: -node.col_offset):
        space = f"{spaces[name.id]}.".encode()
        encoded = encoded[: name.col_offset] + space + encoded[name.col_offset :]
    return encoded.decode()
