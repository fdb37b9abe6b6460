"""Arrow streams: what they say of themselves is bounded before anything is made of it."""

from __future__ import annotations

import contextlib
import io
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.errors import ConfigError, TooLarge
from keepfit.server import arrow

NO_TIME = 2**62


def stream(frame: pl.DataFrame, compression: Any = "uncompressed") -> bytes:
    sink = io.BytesIO()
    frame.write_ipc_stream(sink, compression=compression)
    return sink.getvalue()


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_rows_are_what_json_would_hold(compression: str) -> None:
    frame = pl.DataFrame(
        {
            "x": [1.5, None, float("nan")],
            "n": [1, 2, 3],
            "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "at": [datetime(2024, 3, 9, 12), None, None],
            "day": [date(2024, 3, 9), None, None],
            "some": [[1, 2], [], None],
            "more": [{"a": "u"}, {"a": None}, None],
        }
    )
    rows = arrow.rows(stream(frame, compression))
    assert rows[0] == {
        "x": 1.5,
        "n": 1,
        "kind": "a",
        "at": "2024-03-09T12:00:00",
        "day": "2024-03-09",
        "some": [1, 2],
        "more": {"a": "u"},
    }
    assert [row["x"] for row in rows] == [1.5, None, None]
    assert arrow.rows(stream(frame.clear())) == []


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_rows_of_several_batches_are_all_read(batch: int) -> None:
    frame = pl.DataFrame({"x": range(20)})
    sink = io.BytesIO()
    parts = frame.iter_slices(batch)
    pl.concat(parts, rechunk=False).write_ipc_stream(sink)
    assert [row["x"] for row in arrow.rows(sink.getvalue())] == list(range(20))


BOMBS = {
    "rows of nothing": pl.DataFrame({"x": pl.Series([None] * 3_000_000, dtype=pl.Null)}),
    "rows of one number": pl.DataFrame({"x": pl.zeros(1_000_000, eager=True)}),
    "a row too many": pl.DataFrame({"x": pl.zeros(10_001, eager=True)}),
    "one long list": pl.DataFrame({"x": [pl.zeros(3_000_000, pl.Int8, eager=True)]}),
    "one long list of nothing": pl.DataFrame(
        {"x": pl.Series([[None] * 3_000_000], dtype=pl.List(pl.Null))}
    ),
    "one long text": pl.DataFrame({"x": ["a" * 40_000_000]}),
    "one text for all rows": pl.DataFrame(
        {"x": pl.Series(["a" * 10_000] * 10_000, dtype=pl.Categorical)}
    ),
    "one text in all lists": pl.DataFrame(
        {"x": pl.Series([["a" * 10_000]] * 10_000, dtype=pl.List(pl.Categorical))}
    ),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_stream_that_would_grow_is_refused_before_it_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = stream(BOMBS[name], "zstd")
    monkeypatch.setattr(pl.DataFrame, "to_dicts", None)
    if "text" not in name:
        # What the headers say is enough.
        monkeypatch.setattr(pl, "read_ipc_stream", None)
    with pytest.raises(TooLarge):
        arrow.rows(body)


ODD = {
    "no time of Python's": pl.DataFrame({"x": pl.Series([NO_TIME]).cast(pl.Datetime("us"))}),
    "before all time": pl.DataFrame({"x": pl.Series([-NO_TIME]).cast(pl.Datetime("us"))}),
    "no date of Python's": pl.DataFrame(
        {"x": pl.Series([2**31 - 1], dtype=pl.Int32).cast(pl.Date)}
    ),
}


@pytest.mark.parametrize("name", sorted(ODD))
def test_what_python_has_no_value_for_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match="expected an Arrow stream, got: "):
        arrow.rows(stream(ODD[name]))


def test_a_panic_of_polars_is_told_and_an_interrupt_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = stream(pl.DataFrame({"x": [1]}))

    def raising(error: BaseException) -> Any:
        def read(content: bytes) -> Any:
            raise error

        return read

    monkeypatch.setattr(pl, "read_ipc_stream", raising(pl.exceptions.PanicException("no\nmore")))
    with pytest.raises(ConfigError, match="got: no\n"):
        arrow.rows(body)
    monkeypatch.setattr(pl, "read_ipc_stream", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        arrow.rows(body)


def test_types_that_json_lacks_are_told() -> None:
    pa = pytest.importorskip("pyarrow")
    deep = pa.null()
    for _ in range(40):
        deep = pa.list_(deep)
    for type_, message in (
        (pa.month_day_nano_interval(), "got Interval"),
        (pa.map_(pa.string(), pa.int64()), "got Map"),
        (pa.run_end_encoded(pa.int32(), pa.int32()), "got RunEndEncoded"),
        (deep, "nested 32 deep"),
    ):
        sink = io.BytesIO()
        pa.ipc.new_stream(sink, pa.schema([("x", type_)])).close()
        with pytest.raises(ConfigError, match=message):
            arrow.rows(sink.getvalue())


GOOD = stream(pl.DataFrame({"x": [1.0, 2.0], "kind": ["a", "b"], "some": [[1], [2, 3]]}), "lz4")


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, len(GOOD)),
    st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_spoilt_bytes_are_rows_or_told(
    changes: list[tuple[int, int]], length: int, cut: bool
) -> None:
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    body = bytes(content[:length] if cut else content)
    with contextlib.suppress(ConfigError, TooLarge):
        assert len(arrow.rows(body)) <= 10_000


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_told(body: bytes) -> None:
    for content in (body, GOOD[:8] + body, GOOD[:200] + body):
        with contextlib.suppress(ConfigError):
            assert len(arrow.rows(content)) <= 10_000
