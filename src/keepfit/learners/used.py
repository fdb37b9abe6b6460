"""Which packages an estimator is made with, wherever in it they are."""

from __future__ import annotations

import dis
import types
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
        if id(one) in seen or isinstance(one, _PLAIN):
            continue
        seen[id(one)] = one
        if isinstance(one, types.ModuleType):
            found.add(one.__name__.partition(".")[0])
        elif isinstance(one, type | types.FunctionType):
            module = one.__module__ or "__main__"
            if pickles.is_users(module):
                waiting += _named_by(one, found)
            else:
                found.add(module.partition(".")[0])
        else:
            waiting += _parts_of(one)
    return found


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
        found |= {
            str(step.argval).partition(".")[0]
            for step in dis.get_instructions(code)
            if step.opname == "IMPORT_NAME"
        }
    names = {name for code in codes for name in code.co_names}
    return [own.__globals__[name] for name in sorted(names) if name in own.__globals__]
