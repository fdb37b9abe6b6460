"""Hashes of rows, the same on every machine, in every process and with every version of Polars.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from keepfit.batch import ID, LABEL, TIME
from keepfit.lake.types import UTC_MICROSECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_EXACT_IN_FLOAT = 2**53


def row_hashes(frame: pl.DataFrame, columns: Sequence[str]) -> Hashes:
    """Return one 64-bit hash per row over named columns, whatever their order.

    A missing value adds nothing, so that a row keeps its hash when the stream gains a
    column; a whole number hashes alike as integer and as float, because the same column
    is often written as either. NaN counts as missing.
    """
    total = np.zeros(frame.height, dtype=np.uint64)
    for name in columns:
        values = frame.get_column(name)
        if values.dtype != pl.Null:
            number = values.dtype.is_numeric() or values.dtype == pl.Boolean
            bits, missing = _canonical(values, values.cast(pl.Float64) if number else None)
            mixed = _mix(bits ^ np.uint64(_text_hash(name)))
            if missing is not None:
                mixed[missing] = 0
            total += mixed
    return total


def digest(
    rows: pl.DataFrame, hashes: Hashes, labels: pl.DataFrame, labelled: Hashes | None = None
) -> str:
    """Return a digest of rows (in the order given) and labels (in any order).

    ``hashes`` are `row_hashes` of the rows, ``labelled`` those of the labels, where they are known.
    """
    state, own = blake2b(digest_size=16), rows.get_column(ID)
    named = _bytes(own)
    state.update(named)
    state.update(_bytes(rows.get_column(TIME)))
    state.update(hashes.tobytes())
    if labels.height:
        ids = labels.get_column(ID)
        if not ascending(ids):
            labels = labels.select(ID, LABEL).sort(ID, LABEL)
            ids, labelled = labels.get_column(ID), None
        state.update(named if ids.equals(own) else _bytes(ids))
        known = row_hashes(labels, [LABEL]) if labelled is None else labelled
        state.update(known.tobytes())
    return state.hexdigest()


def ascending(ids: pl.Series) -> bool:
    """Return whether each id is larger than the one before."""
    pairs = ids.len() - 1
    return not ids.null_count() and bool((ids.slice(0, pairs) < ids.slice(1)).all())


def hash_ids(hashes: Hashes, within: pl.Series) -> pl.Series:
    """Return ids made of hashes; rows with the same hash get an occurrence number.

    ``within`` orders rows of the same content, so that the numbers do not depend on the
    order of delivery.
    """
    hexed = np.frombuffer(hashes.astype(">u8").tobytes().hex().encode(), dtype="S16")
    frame = pl.DataFrame({"hash": pl.Series(hexed).cast(pl.String), "within": within})
    if frame.get_column("hash").n_unique() == frame.height:
        return frame.get_column("hash")
    occurrence = pl.col("within").rank("ordinal").over("hash") - 1
    return frame.select(
        pl.when(occurrence == 0)
        .then(pl.col("hash"))
        .otherwise(pl.format("{}-{}", pl.col("hash"), occurrence))
    ).to_series()


def _canonical(
    values: pl.Series, floats: pl.Series | None
) -> tuple[Hashes, NDArray[np.bool_] | None]:
    """Return 64 bits per value, and which values are missing (None: none is)."""
    if floats is not None:
        return _number_bits(values, floats)
    missing = values.is_null().to_numpy() if values.null_count() else None
    if values.dtype.is_temporal():
        physical = values.cast(UTC_MICROSECONDS).to_physical().fill_null(0)
        return physical.to_numpy().view(np.uint64), missing
    if values.dtype == pl.String:
        return _text_bits(values), missing
    hashed = (_text_hash(repr(value)) for value in values.to_list())
    return np.fromiter(hashed, dtype=np.uint64, count=values.len()), missing


def _number_bits(values: pl.Series, floats: pl.Series) -> tuple[Hashes, NDArray[np.bool_] | None]:
    # Adding zero turns -0.0 into 0.0.
    numbers = floats.to_numpy() + 0.0
    missing = np.isnan(numbers)
    bits = numbers.view(np.uint64)
    if values.dtype == pl.Int64:
        large = np.abs(numbers) >= _EXACT_IN_FLOAT
        if large.any():
            exact = values.fill_null(0).to_numpy()
            bits[large] ^= _mix(exact[large].view(np.uint64).copy())
    return bits, missing if missing.any() else None


def _text_bits(values: pl.Series) -> Hashes:
    texts = values.rename("text").drop_nulls().unique()
    hashed = np.fromiter((_text_hash(t) for t in texts.to_list()), np.uint64, count=texts.len())
    known = pl.DataFrame({"text": texts, "hash": hashed})
    found = (
        values.rename("text").to_frame().join(known, on="text", how="left", maintain_order="left")
    )
    return found.get_column("hash").fill_null(0).to_numpy()


def _text_hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _mix(bits: Hashes) -> Hashes:
    """Spread bits in place: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def _bytes(values: pl.Series) -> bytes:
    if values.dtype == pl.String:
        return "\x1f".join(values.to_list()).encode()
    if isinstance(values.dtype, pl.Datetime) and not values.null_count():
        return values.to_numpy().tobytes()  # the same, without a query
    if not values.dtype.is_integer():
        values = values.to_physical()
    return values.to_numpy().tobytes()
