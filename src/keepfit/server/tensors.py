"""Tensors of the Open Inference Protocol v2, in JSON and in its binary extension."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.errors import ConfigError
from keepfit.server.limits import few
from keepfit.server.values import shown

if TYPE_CHECKING:
    import numpy as np

LENGTH = "inference-header-content-length"
"""The header that says how much of a body is JSON, before the binary data."""

FORMS = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
"""How NumPy names the datatypes, all little-endian; BYTES and BF16 have forms of their own."""

DIMENSIONS = 8
"""Lengths of a shape at most: rows have one or two, and strangers send a few of 1."""

MOST_LENGTH = 2**31
MOST_TENSORS = 10_000

DATATYPES = (*FORMS, "BF16", "BYTES")
Extra = dict[str, bool | int | float | str]


class Tensor(msgspec.Struct):
    """A tensor, row-major; ``data`` may be flat or nested, and is absent when it comes as binary."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: Extra = {}


class Wanted(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: Extra = {}


class Inference(msgspec.Struct):
    """A request for answers."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Wanted] | None = None
    parameters: Extra = {}

    def binary(self, output: str) -> bool:
        """Return whether an output is to be binary."""
        for one in self.outputs or ():
            if one.name == output:
                return bool(one.parameters.get("binary_data", False))
        return bool(self.parameters.get("binary_data_output", False))


_decode = msgspec.json.Decoder(Inference).decode


def read(body: bytes, length: str | None) -> Inference:
    """Return a request, its binary data put where JSON's would be.

    Parameters
    ----------
    body
        The body as it came.
    length
        What the header says: how many bytes of it are JSON; None when all are.

    Raises
    ------
    ConfigError
        It is no request, or its binary data does not fit what it says of it.
    """
    head = len(body) if length is None else _length(length, len(body))
    try:
        asked = _decode(body[:head])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"expected a request of the protocol v2, got: {error}") from None
    if len(asked.inputs) > MOST_TENSORS:
        raise ConfigError(f"expected at most {MOST_TENSORS:,} tensors, got {len(asked.inputs):,}")
    at = head
    for tensor in asked.inputs:
        at = _put(tensor, body, at)
    if at != len(body):
        raise ConfigError(
            f"expected {at - head:,} bytes of binary data, got {len(body) - head:,}",
            hint="binary_data_size of the inputs adds up to them",
        )
    return asked


def _length(text: str, most: int) -> int:
    if len(text) <= 20 and text.isascii() and text.isdecimal() and int(text) <= most:
        return int(text)
    raise ConfigError(
        f"expected at most {most:,} in Inference-Header-Content-Length, got {shown(text)}"
    )


def _put(tensor: Tensor, body: bytes, at: int) -> int:
    """Put a tensor's binary data into it, and return where the next one's begins."""
    if tensor.datatype not in DATATYPES:
        raise ConfigError(
            f"expected a datatype of {tensor.name!r} among {', '.join(DATATYPES)}, "
            f"got {tensor.datatype!r}"
        )
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is None:
            raise ConfigError(f"expected data for {tensor.name!r}, got none")
        return at
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(body) - at:
        raise ConfigError(
            f"expected a binary_data_size of {tensor.name!r} up to {len(body) - at:,}, got {size!r}"
        )
    tensor.data = unpacked(tensor.datatype, body[at : at + size], tensor.name)
    return at + size


def unpacked(datatype: str, content: bytes, name: str) -> list[Any]:
    """Return the values that bytes hold, flat; what is no finite number is missing.

    Raises
    ------
    ConfigError
        They are no whole number of values.

    Examples
    --------
    >>> unpacked("INT16", bytes([1, 0, 2, 0]), "x"), unpacked("BYTES", bytes([1, 0, 0, 0, 97]), "y")
    ([1, 2], ['a'])
    """
    import numpy as np

    if datatype == "BYTES":
        return list(_texts(content, name))
    width = 2 if datatype == "BF16" else np.dtype(FORMS[datatype]).itemsize
    if len(content) % width:
        raise ConfigError(
            f"expected a multiple of {width} bytes for {name!r}, which is {datatype}, "
            f"got {len(content):,}"
        )
    if datatype == "BF16":
        # The upper half of a 32-bit number.
        values = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(content, FORMS[datatype])
    return _finite(values)


def _finite(values: np.ndarray) -> list[Any]:
    import numpy as np

    found: list[Any] = values.tolist()
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return found
    return [value if np.isfinite(value) else None for value in found]


def _texts(content: bytes, name: str) -> Iterator[str]:
    at = 0
    while at < len(content):
        end = at + 4
        if end <= len(content):
            end += struct.unpack_from("<I", content, at)[0]
        if end < at + 4 or end > len(content):
            raise ConfigError(f"expected each text of {name!r} behind its length in 4 bytes")
        try:
            yield content[at + 4 : end].decode()
        except UnicodeDecodeError:
            raise ConfigError(f"expected texts of UTF-8 in {name!r}, got other bytes") from None
        at = end


def packed(datatype: str, values: Sequence[Any]) -> bytes:
    """Return values as the bytes that hold them.

    Examples
    --------
    >>> unpacked("BYTES", packed("BYTES", ["a", "ü"]), "y")
    ['a', 'ü']
    """
    import numpy as np

    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join([struct.pack("<I", len(text)) + text for text in texts])
    return np.asarray(values, FORMS[datatype]).tobytes()


class Output(msgspec.Struct):
    """A tensor of a response."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


def written(head: dict[str, Any], outputs: Sequence[Output], asked: Inference) -> tuple[bytes, int]:
    """Return a response, and how many bytes of it are JSON; zero when all are.

    Raises
    ------
    ConfigError
        An output is asked for that is none.
    """
    parts: list[bytes] = []
    told: list[dict[str, Any]] = []
    for one in _chosen(outputs, asked):
        shown: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": one.shape}
        if asked.binary(one.name):
            parts.append(packed(one.datatype, one.data))
            shown["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            shown["data"] = one.data
        told.append(shown)
    text = msgspec.json.encode({**head, "outputs": told})
    return (b"".join((text, *parts)), len(text)) if parts else (text, 0)


def _chosen(outputs: Sequence[Output], asked: Inference) -> list[Output]:
    if not asked.outputs:
        return list(outputs)
    named = {one.name: one for one in outputs}
    for one in asked.outputs:
        if one.name not in named:
            raise ConfigError(f"expected outputs among {', '.join(named)}, got {one.name!r}")
    return [named[one.name] for one in asked.outputs]


def rows_of(inputs: Sequence[Tensor], features: Sequence[str]) -> list[dict[str, Any]]:
    """Return tensors as rows: one tensor per column, or one with all features in their order.

    Raises
    ------
    ConfigError
        A tensor's data does not have its shape, or the tensors differ in their rows.
    TooLarge
        They are of more rows than a request may hold.

    Examples
    --------
    >>> rows_of([Tensor("input", [2, 2], "FP64", [1, 2, 3, 4])], ["x", "y"])
    [{'x': 1, 'y': 2}, {'x': 3, 'y': 4}]
    """
    if len(inputs) == 1 and inputs[0].name not in features:
        return _matrix(inputs[0], features)
    columns = {one.name: _flat(one) for one in inputs}
    if len(columns) < len(inputs):
        raise ConfigError("expected tensors of different names, got one name twice")
    if len({len(values) for values in columns.values()}) > 1:
        raise ConfigError("expected tensors with as many rows each, got several lengths")
    few(max(map(len, columns.values()), default=0))
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _matrix(tensor: Tensor, features: Sequence[str]) -> list[dict[str, Any]]:
    width = len(features)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise ConfigError(
            f"expected a tensor of shape [n, {width}], got {shown(tensor.shape)}",
            hint=f"the columns are {', '.join(features[:8])}, or send a tensor for each",
        )
    few(tensor.shape[0])
    flat = _flat(tensor)
    return [
        dict(zip(features, flat[first : first + width], strict=True))
        for first in range(0, len(flat), width)
    ]


def _flat(tensor: Tensor) -> list[Any]:
    """Return the values of a tensor in one list, in time that grows with their number."""
    expected = _size(tensor)
    values: list[Any] = tensor.data or []
    for _ in tensor.shape[1:]:
        if not values or not all(isinstance(part, list) for part in values):
            break
        values = list(chain.from_iterable(values))
    if len(values) != expected:
        raise ConfigError(
            f"expected {expected} values for shape {tensor.shape} of {shown(tensor.name)}, "
            f"got {len(values)}"
        )
    if not {list, dict}.isdisjoint(map(type, values)):
        raise ConfigError(
            f"expected values of {shown(tensor.name)}, got lists or objects",
            hint="data is flat, or nested as its shape says",
        )
    return values


def _size(tensor: Tensor) -> int:
    """Return how many values a tensor's shape says that it has."""
    shape = tensor.shape
    if len(shape) > DIMENSIONS or not all(0 <= length <= MOST_LENGTH for length in shape):
        raise ConfigError(
            f"expected a shape of {shown(tensor.name)} of at most {DIMENSIONS} lengths, each from "
            f"0 to {MOST_LENGTH:,}, got {shown(shape)}"
        )
    return math.prod(shape)
