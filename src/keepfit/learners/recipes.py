"""River's models as keepfit sees them: names, parameters, copies that have learnt nothing."""

from __future__ import annotations

import copy
import gc
import inspect
import random
import types
from collections.abc import Iterator
from typing import Any

from keepfit.errors import ConfigError
from keepfit.learners import estimators

_ONE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def renewed(model: Any, seed: int | None = None) -> Any:
    """Return a model with the same parameters that has learnt nothing, with a seed where one is open.

    River's own `clone` copies models in a list with all they have learnt, lets two imputers
    share their statistics, and leaves chance to the operating system.

    Raises
    ------
    ConfigError
        The model cannot be copied.
    """
    try:
        return _renewed(model, seed)
    except Exception as error:
        raise ConfigError(
            f"expected a model that can be copied, got {type(model).__name__}: {error}",
            hint="`__init__` of a model keeps its arguments under their names",
        ) from error


def _renewed(value: Any, seed: int | None) -> Any:
    steps = _steps(value)
    if steps is not None:
        return type(value)(*[(name, _renewed(step, seed)) for name, step in steps.items()])
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_renewed(one, seed) for one in value)
    if type(value) is dict:
        return {name: _renewed(one, seed) for name, one in value.items()}
    if not _is_rivers(value):
        return copy.deepcopy(value)
    stated = _parameters(value)
    settings = {
        name: _renewed(held, seed)
        for name, held in stated.items()
        if _is_rivers(held) or type(held) in (list, tuple, dict)
    }
    if seed is not None and stated.get("seed", seed) is None:
        settings["seed"] = seed
    free = _free(value)
    if free:
        return type(value)(*(_renewed(one, seed) for one in free), **{**stated, **settings})
    return value.clone(settings) if settings else value.clone()


def settle(model: Any, seed: int) -> None:
    """Give generators of chance that nobody seeded one seed, so that trainings repeat.

    River makes some while it learns: each Gaussian in a tree holds one to sample with.
    They share one, which also keeps models small.
    """
    shared = random.Random(seed)
    seen: set[int] = set()
    left = [model]
    while left:
        held = left.pop()
        if id(held) in seen or isinstance(held, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(held))
        fields = getattr(held, "__dict__", None)
        if isinstance(fields, dict) and fields.get("seed", seed) is None:
            for name in [name for name, one in fields.items() if type(one) is random.Random]:
                fields[name] = shared
        left.extend(gc.get_referents(held))


def recipe(value: Any) -> Any:
    """Return what a model is made of: classes and parameters, and nothing it has learnt."""
    steps = _steps(value)
    if steps is not None:
        return type(value), [(name, recipe(step)) for name, step in steps.items()]
    if isinstance(value, list | tuple):
        return [recipe(one) for one in value]
    if _is_rivers(value):
        stated = {name: recipe(held) for name, held in _parameters(value).items()}
        return type(value), recipe(_free(value)), stated
    return value


def described(value: Any) -> str:
    """Return a model as the expression that makes it, with what differs from its defaults."""
    text = _described(value)
    longest = estimators.LONGEST_NAME
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _described(value: Any) -> str:
    steps = _steps(value)
    if steps is not None:
        shown = [_described(step) for step in steps.values()]
        if not hasattr(value, "transformers"):
            return " | ".join(shown)
        return f"({' + '.join(f'({one})' if ' | ' in one else one for one in shown)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    if not _is_rivers(value):
        return estimators.described(value)
    shown = _described_free(value)
    shown += [f"{name}={_described(held)}" for name, held in _changed(value)]
    return f"{type(value).__name__}({', '.join(shown)})"


def _described_free(value: Any) -> list[str]:
    free = _free(value)
    shown = [_described(one) for one in free]
    return sorted(shown) if isinstance(free, set | frozenset) else shown


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    from keepfit import pickles

    try:
        plain = _parameters(type(value)())
    except TypeError:
        # A parameter has no default, and none can be made to compare with.
        found = inspect.signature(type(value)).parameters
        plain = {name: one.default for name, one in found.items()}
    for name, held in _parameters(value).items():
        if pickles.fingerprint(recipe(held)) != pickles.fingerprint(recipe(plain[name])):
            yield name, held


def as_json(value: Any) -> Any:
    """Return a model's parameters as JSON can hold them, models inside by name."""
    steps = _steps(value)
    if steps is not None:
        return {name: as_json(step) for name, step in steps.items()}
    found = {
        name: _described(held) if _is_rivers(held) else estimators.as_json(held)
        for name, held in _parameters(value).items()
    }
    free = {"arguments": _described_free(value)} if _free(value) else {}
    return {"class": type(value).__name__, **free, **found}


def prepares(model: Any) -> bool:
    """Return whether a model, or one inside it, prepares columns itself."""
    return any(
        _steps(one) is not None or estimators.derives(one, "river", "Transformer")
        for one in _inside(model)
    )


def imputes(model: Any) -> bool:
    """Return whether a model fills missing values itself, and so must be shown them."""
    kinds = ("StatImputer", "PreviousImputer")
    return any(estimators.derives(one, "river", *kinds) for one in _inside(model))


def innermost(model: Any) -> list[Any]:
    """Return the classifiers and regressors inside a model that hold no other, or the model."""
    kinds = ("Classifier", "Regressor")
    found = [
        one
        for one in _inside(model)
        if estimators.derives(one, "river", *kinds)
        and not any(estimators.derives(held, "river", *kinds) for held in list(_inside(one))[1:])
    ]
    # What trees learn in their leaves is theirs.
    trees = [one for one in _inside(model) if type(one).__module__.startswith("river.tree")]
    return trees or found


def learns_many(model: Any) -> bool:
    """Return whether a model, with all that prepares its columns, takes many rows at once."""
    steps = _steps(model)
    if steps is None:
        return hasattr(model, "learn_many")
    *before, last = steps.values()
    return learns_many(last) and all(_prepares_many(one) for one in before)


def _prepares_many(step: Any) -> bool:
    parts = _steps(step)
    if parts is None:
        return hasattr(step, "transform_many")
    return all(_prepares_many(one) for one in parts.values())


def _inside(model: Any) -> Iterator[Any]:
    """Yield a model and the models among its parameters, however deep."""
    yield model
    for one in (_steps(model) or _parameters(model)).values():
        several = one if isinstance(one, list | tuple) else [one]
        for part in several:
            if _is_rivers(part):
                yield from _inside(part)


def _is_rivers(value: Any) -> bool:
    return estimators.derives(value, "river", "Base")


def _steps(value: Any) -> dict[str, Any] | None:
    """Return the steps of a pipeline or the parts of a union, else None."""
    if estimators.derives(value, "river", "Pipeline"):
        return dict(value.steps)
    if estimators.derives(value, "river", "TransformerUnion"):
        return dict(value.transformers)
    return None


def _parameters(value: Any) -> dict[str, Any]:
    """Return a model's parameters, those with a name of their own."""
    found = inspect.signature(type(value)).parameters.values()
    return {one.name: getattr(value, one.name) for one in found if one.kind in _ONE}


def _free(value: Any) -> Any:
    """Return the values of a parameter that takes any number of them, nothing where none does."""
    found = inspect.signature(type(value)).parameters.values()
    name = next((one.name for one in found if one.kind is one.VAR_POSITIONAL), "")
    return getattr(value, name, ())
