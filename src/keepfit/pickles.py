"""The user's own code and objects as bytes: pickled by value, fingerprinted by content.

Code that lies outside the installed packages (a script, a notebook, a pipeline's file) goes
into a pickle by value, because the process that opens it must not run the user's file again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle

from keepfit.opcodes import ordered

_ROUNDS = 4
_SKIPPED = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__firstlineno__",
        "__static_attributes__",
        "__slotnames__",  # kept there by the first pickling of an instance
        "_abc_impl",
    }
)
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_registry = threading.RLock()


def is_users(module: str) -> bool:
    """Return whether a module is the user's own: not keepfit's, Python's or an installed package's.

    Examples
    --------
    >>> is_users("__main__"), is_users("json.decoder"), is_users("keepfit.pickles")
    (True, False, False)
    """
    if module == "__main__":
        return True
    if module.partition(".")[0] in sys.stdlib_module_names | {"keepfit"}:
        return False
    loaded = sys.modules.get(module)
    if loaded is None:
        return True
    file, spec = getattr(loaded, "__file__", None), getattr(loaded, "__spec__", None)
    package = module.rpartition(".")[0]
    if file is None and spec is None and package:
        return is_users(package)  # made by compiled code, within the package that holds it
    return _outside(file, spec is None)


def is_users_file(file: str) -> bool:
    """Return whether a file of code is the user's own."""
    return _outside(file, False) and Path(__file__).parent not in Path(file).parents


@functools.cache
def _goes_by_value(name: str) -> bool:
    # Asked of all that is imported with every pickle: a module stays whose it is.
    own = name == getattr(sys.modules.get(name), "__name__", None)
    return own and name != "__main__" and is_users(name)


@functools.cache
def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib"))


@functools.lru_cache(maxsize=10_000)
def _outside(file: str | None, made_by_hand: bool) -> bool:
    if file is None:
        return made_by_hand
    path = Path(file)
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    own = _stdlib() in path.parents
    return path.suffix == ".py" and not installed and not own


def dumps(value: Any) -> bytes:
    """Return a value as bytes that depend on its content alone.

    Pickles of equal objects may differ in what is shared inside them, and in the order of
    texts and numbers in a set: the first is settled by opening and closing them again, the
    second and the sharing of texts by writing them anew. Other things in a set stay as they come.

    Raises
    ------
    pickle.PicklingError, TypeError
        The value holds something that cannot be pickled: an open file, a lock, a connection.
    """
    content = ordered(_dumps(value))
    for _ in range(_ROUNDS):
        again = ordered(_dumps(pickle.loads(content)))
        if again == content:
            break
        content = again
    return content


def dumps_once(value: Any) -> bytes:
    """Return a value as bytes to send away, without making them repeatable.

    Raises
    ------
    pickle.PicklingError, TypeError
        The value holds something that cannot be pickled: an open file, a lock, a connection.
    """
    return _dumps(value)


def loads(content: bytes) -> Any:
    """Return the value that bytes of `dumps` hold; never open bytes of unknown origin."""
    return pickle.loads(content)


# cloudpickle has no types, so that mypy takes its classes for anything.
class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves chance out: random names of classes, and what lay in memory between fields."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj).__module__ == "numpy" and getattr(obj, "dtype", None) is not None:
            return _without_gaps(obj)
        if _is_tensor(obj):
            return _tensor, _parts(obj)
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) or not isinstance(reduced, tuple) or len(reduced) < 2:
            return reduced
        return reduced[0], _named(reduced[1], obj), *reduced[2:]


def _without_gaps(array: Any) -> Any:
    """Return how to pickle an array of records with zeros between its fields.

    scikit-learn's trees are such arrays, and hold whatever their memory held before.
    """
    fields = array.dtype.fields
    if not fields or sum(field[0].itemsize for field in fields.values()) == array.dtype.itemsize:
        return NotImplemented
    import numpy as np

    clean = np.zeros(array.shape, dtype=array.dtype)
    for name in fields:
        clean[name] = array[name]
    return clean.__reduce_ex__(5)


def _is_tensor(value: Any) -> bool:
    """Return whether a value is a plain tensor of PyTorch with numbers in it, or a parameter."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return False
    dense = str(value.layout) == "torch.strided" and not value.is_quantized
    return dense and value.device.type != "meta"


def _parts(tensor: Any) -> tuple[Any, ...]:
    """Return a tensor as plain values: pickled by itself it tells where in memory it lay."""
    import torch

    held = tensor.detach().cpu().contiguous()
    numbers = held.reshape(-1).view(torch.uint8).numpy().tobytes() if held.numel() else b""
    learns = tensor.requires_grad and tensor.is_leaf
    return type(tensor), str(held.dtype), tuple(held.shape), numbers, learns


def _tensor(kind: type, dtype: str, shape: tuple[int, ...], numbers: bytes, learns: bool) -> Any:
    import torch

    held = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
    if numbers:
        held = torch.frombuffer(bytearray(numbers), dtype=held.dtype).reshape(shape)
    if issubclass(kind, torch.nn.Parameter):
        return torch.nn.Parameter(held, requires_grad=learns)
    return held.requires_grad_(learns)


def _named(arguments: tuple[Any, ...], cls: type) -> tuple[Any, ...]:
    drawn = arguments[-2] if len(arguments) >= 6 else None
    if not isinstance(drawn, str) or len(drawn) != 32:
        return arguments
    return *arguments[:-2], fingerprint(cls)[:32], arguments[-1]


def _dumps(value: Any) -> bytes:
    with _by_value():
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=5).dump(value)
        return buffer.getvalue()


@contextmanager
def _by_value() -> Iterator[None]:
    with _registry:
        known = cloudpickle.list_registry_pickle_by_value()
        # Names alone: a pair for each of thousands of modules would set the collector to work.
        names = [one for one in list(sys.modules) if _goes_by_value(one) and one not in known]
        mine = [sys.modules[name] for name in names if name in sys.modules]
        for module in mine:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in mine:
                cloudpickle.unregister_pickle_by_value(module)


# Fingerprints -----------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """Return a digest of a value, the same in every process.

    The user's own functions and classes count with their code, those of packages with their
    name; sets and dictionaries count in any order.

    Examples
    --------
    >>> fingerprint({"b": 1, "a": {2, 3}}) == fingerprint({"a": {3, 2}, "b": 1})
    True
    >>> fingerprint([1, 2]) == fingerprint([2, 1])
    False
    """
    return _Walk().digest(value).hex()


class _Walk:
    """One walk through a value: what lies on the path and what has been seen in full."""

    def __init__(self) -> None:
        self._path: list[int] = []
        self._seen: dict[int, tuple[Any, bytes]] = {}

    def digest(self, value: Any) -> bytes:
        """Return the digest of a value and all that it holds."""
        if type(value) in _PLAIN:
            return _hash(type(value).__name__, repr(value).encode())
        if id(value) in self._seen:
            return self._seen[id(value)][1]
        if id(value) in self._path:
            return _hash("cycle", str(len(self._path) - self._path.index(id(value))).encode())
        self._path.append(id(value))
        try:
            found = self._held(value)
        finally:
            self._path.pop()
        if isinstance(value, type | types.FunctionType):
            self._seen[id(value)] = value, found
        return found

    def _all(self, kind: str, *values: Any) -> bytes:
        return _hash(kind, *(self.digest(value) for value in values))

    def _held(self, value: Any) -> bytes:
        if isinstance(value, tuple | list) and type(value) in (tuple, list):
            return self._all(type(value).__name__, *value)
        if type(value) in (set, frozenset):
            return _hash("set", *sorted(self.digest(one) for one in value))
        if type(value) in (dict, types.MappingProxyType):
            pairs = (self._all("pair", key, held) for key, held in value.items())
            return _hash("dict", *sorted(pairs))
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            return _hash("module", value.__name__.encode())
        if isinstance(value, types.BuiltinFunctionType | types.BuiltinMethodType):
            return self._all("builtin", _name(value), _owner(value))
        if isinstance(value, types.MethodType):
            return self._all("method", value.__func__, value.__self__)
        return self._object(value)

    def _code(self, code: types.CodeType) -> bytes:
        shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        return self._all("code", code.co_code, code.co_consts, names, shape)

    def _function(self, function: types.FunctionType) -> bytes:
        if not is_users(function.__module__ or "__main__"):
            return _hash("function", _name(function).encode())
        cells = [_content(cell) for cell in function.__closure__ or ()]
        used = {
            name: function.__globals__[name]
            for name in sorted(_names(function.__code__))
            if name in function.__globals__ and not name.startswith("@")
        }
        defaults = (function.__defaults__, function.__kwdefaults__)
        return self._all(
            "function", function.__qualname__, function.__code__, defaults, cells, used
        )

    def _class(self, cls: type) -> bytes:
        if not is_users(cls.__module__):
            return _hash("class", _name(cls).encode())
        held = {key: value for key, value in vars(cls).items() if key not in _SKIPPED}
        return self._all("class", cls.__qualname__, cls.__bases__, held)

    def _object(self, value: Any) -> bytes:
        if isinstance(value, property):
            return self._all("property", value.fget, value.fset, value.fdel)
        if isinstance(value, staticmethod | classmethod):
            return self._all(type(value).__name__, value.__func__)
        if isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
            return _hash("slot", value.__name__.encode())
        if _is_tensor(value):
            return self._all("tensor", *_parts(value))
        if hasattr(value, "get_params") and not isinstance(value, type):
            return self._all("estimator", type(value), value.get_params(deep=False))
        try:
            reduced = value.__reduce_ex__(4)
        except TypeError:
            # A lock, an open file: nothing that training could depend on by content.
            return self._all("opaque", type(value))
        if isinstance(reduced, str):
            return self._all("object", type(value), reduced)
        maker, arguments, state, *items = (*reduced, None, None, None)[:5]
        listed = [list(part) if part is not None else None for part in items]
        return self._all("object", maker, arguments, state, listed)


def _hash(kind: str, *parts: bytes) -> bytes:
    hasher = hashlib.sha256(kind.encode())
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', value)}"


def _owner(value: Any) -> Any:
    owner = getattr(value, "__self__", None)
    return None if isinstance(owner, types.ModuleType) else owner


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _names(code: types.CodeType) -> set[str]:
    """Return the names that code, and the code inside it, may look up outside itself."""
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*(_names(one) for one in inner))
