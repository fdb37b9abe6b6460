"""Which packages an estimator is made with, wherever in it they are."""

from __future__ import annotations

import dis
import types
from contextlib import suppress
from typing import Any

from keepfit import pickles

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def used(value: Any) -> set[str]:
    """Return the packages that a value is made with: of its parts, and of what the user's code names.

    The parts of an estimator are its parameters, and theirs: of a pipeline its steps. What
    packages do inside is theirs, and not followed.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from lightgbm import LGBMClassifier
    >>> sorted(used(make_pipeline(LGBMClassifier())) & {"lightgbm", "sklearn"})
    ['lightgbm', 'sklearn']
    """
    found: set[str] = set()
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        with suppress(Exception):  # an object of the user's own may fail in any way it likes
            waiting += _looked_at(one, found)
    return found


def _looked_at(value: Any, found: set[str]) -> list[Any]:
    """Return what is to be looked at next, after adding a value's own package to those found."""
    if isinstance(value, _PLAIN):
        return []
    if isinstance(value, types.ModuleType):
        found.add(value.__name__.partition(".")[0])
        return []
    if not isinstance(value, type | types.FunctionType):
        return _parts_of(value)
    module = value.__module__ or "__main__"
    if pickles.is_users(module):
        return _named_by(value, found)
    found.add(module.partition(".")[0])
    return []


def _parts_of(value: Any) -> list[Any]:
    """Return what a value is made of, its class first."""
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, staticmethod | classmethod | types.MethodType):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget]
    kinds: list[Any] = [one for one in type(value).__mro__ if one is not object]
    if callable(getattr(value, "get_params", None)):
        return [*kinds, *value.get_params(deep=False).values()]
    own = any(pickles.is_users(one.__module__) for one in kinds)
    return [*kinds, *getattr(value, "__dict__", {}).values()] if own else kinds


def _named_by(own: type | types.FunctionType, found: set[str]) -> list[Any]:
    """Return what the user's class or function names; what is imported inside is found at once."""
    if isinstance(own, type):
        return [*own.__bases__, *vars(own).values()]
    codes = [own.__code__]
    for code in codes:  # which grows by the functions inside
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
        steps = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
        found |= {
            str(step.argval).partition(".")[0]
            for level, _, step in zip(steps, steps[1:], steps[2:], strict=False)
            if step.opname == "IMPORT_NAME" and not level.argval  # beside the user's own file
        }
    names = {name for code in codes for name in code.co_names}
    return [own.__globals__[name] for name in sorted(names) if name in own.__globals__]
