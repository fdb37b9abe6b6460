import math
import pickle
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift as river_drift

from keepfit import drift, pickles
from keepfit.drift import streaming
from keepfit.drift.streaming import ADWIN, DDM, EDDM, HDDM_A, HDDM_W, KSWIN, PageHinkley, Stream
from keepfit.drift.streaming.following import WARM, Following
from keepfit.errors import ArtifactCorrupt, ConfigError, ExtraMissing
from keepfit.protocols import Detector
from keepfit.testing import check_detector

NUMBERS = [ADWIN(), KSWIN(alpha=0.0001), PageHinkley(threshold=20), PageHinkley(mode="up")]
ERRORS = [DDM(), EDDM(), HDDM_A(), HDDM_A(two_sided_test=True), HDDM_W(), HDDM_W(lambda_val=0.1)]
RIVERS = {
    "ADWIN": (ADWIN, river_drift.ADWIN),
    "KSWIN": (KSWIN, river_drift.KSWIN),
    "PageHinkley": (PageHinkley, river_drift.PageHinkley),
    "DDM": (DDM, river_drift.binary.DDM),
    "EDDM": (EDDM, river_drift.binary.EDDM),
    "HDDM_A": (HDDM_A, river_drift.binary.HDDMA),
    "HDDM_W": (HDDM_W, river_drift.binary.HDDMW),
}


def numbers(seed: int, before: int = 300, after: int = 100, by: float = 3.0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(0.0 if i < before else by, 1.0) for i in range(before + after)]


def errors(seed: int, before: int = 500, after: int = 300) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < (0.2 if i < before else 0.7)) for i in range(before + after)]


def suited(detector: Following, seed: int) -> list[float]:
    return errors(seed) if detector in ERRORS else numbers(seed)


def cut(detector: Following, values: Sequence[float], cuts: Sequence[int]) -> tuple[Any, list[int]]:
    """Follow values in parts; return the last state and the places counted from the beginning."""
    state, places = None, []
    edges = [0, *sorted(cuts), len(values)]
    for start, end in zip(edges, edges[1:], strict=False):
        state, found = detector.advance(state, values[start:end])
        places += [start + place for place in found]
    return state, places


# What River says ------------------------------------------------------------------------


@pytest.mark.parametrize("name", RIVERS)
def test_the_alarms_are_those_of_river(name: str, seed: int) -> None:
    ours, theirs = RIVERS[name]
    detector = ours()
    values = suited(detector, seed)
    plain = theirs(seed=0) if name == "KSWIN" else theirs()
    expected = []
    for place, value in enumerate(values):
        plain.update(value)
        if plain.drift_detected:
            expected.append(place)
    assert detector.advance(None, values)[1] == expected
    assert Stream(plain).advance(None, values)[1] == expected


@pytest.mark.parametrize("name", RIVERS)
def test_the_parameters_are_those_of_river(name: str) -> None:
    import inspect

    ours, theirs = RIVERS[name]
    mine = {one: p.default for one, p in inspect.signature(ours).parameters.items() if one != "on"}
    known = {one: p.default for one, p in inspect.signature(theirs).parameters.items()}
    known.pop("window", None)
    if name == "KSWIN":
        assert known.pop("seed") is None
        assert mine.pop("seed") == 0
    assert mine == known


@pytest.mark.parametrize("detector", NUMBERS + ERRORS, ids=repr)
def test_a_change_is_found_after_it_happened_and_soon(detector: Following, seed: int) -> None:
    values = suited(detector, seed)
    change = 500 if detector in ERRORS else 300
    places = detector.advance(None, values)[1]
    assert any(change <= place < change + 200 for place in places)


@pytest.mark.parametrize(
    "detector", [ADWIN(), PageHinkley(), HDDM_A(), HDDM_W(), DDM(drift_threshold=6)], ids=repr
)
def test_a_stream_that_does_not_change_is_quiet(detector: Following, seed: int) -> None:
    rng = random.Random(seed)
    alarms = 0
    for _ in range(20):
        values = [float(rng.random() < 0.3) for _ in range(1_000)]
        alarms += len(detector.advance(None, values)[1])
    assert alarms <= 2


# Steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", [*NUMBERS, *ERRORS, Stream(river_drift.ADWIN())], ids=repr)
@settings(max_examples=5)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 5))
def test_however_a_stream_is_cut_it_gives_the_same_alarms(
    detector: Following, cuts: list[int], seed: int
) -> None:
    values = suited(detector, seed)
    values[7] = math.nan
    state, places = detector.advance(None, values)
    assert cut(detector, values, cuts) == (state, places)


def test_a_step_leaves_the_state_it_began_with_as_it_was(seed: int) -> None:
    values = numbers(seed)
    state, _ = ADWIN().advance(None, values[:200])
    first = ADWIN().advance(state, values[200:])
    assert ADWIN().advance(state, values[200:]) == first


def test_nothing_new_changes_nothing(seed: int) -> None:
    state, _ = PageHinkley().advance(None, numbers(seed))
    assert PageHinkley().advance(state, []) == (state, [])


@pytest.mark.parametrize("detector", NUMBERS + ERRORS, ids=repr)
def test_missing_and_infinite_values_are_skipped_and_counted(
    detector: Following, seed: int
) -> None:
    values = suited(detector, seed)
    holes: list[float] = []
    for place, value in enumerate(values):
        holes += [math.nan, math.inf, value] if place % 50 == 0 else [value]
    state, places = detector.advance(None, values)
    there, found = detector.advance(None, holes)
    assert [holes[place] for place in found] == [values[place] for place in places]
    skipped = 2 * len(range(0, len(values), 50))
    assert detector.progress(there).skipped == skipped
    assert detector.progress(there).seen == detector.progress(state).seen == len(values)
    assert detector.progress(there).alarms == len(places)


def test_numbers_may_come_as_an_array(seed: int) -> None:
    values = numbers(seed)
    assert ADWIN().advance(None, np.array(values)) == ADWIN().advance(None, values)  # type: ignore[arg-type]
    assert HDDM_A().advance(None, [False, True] * 50) == HDDM_A().advance(None, [0, 1] * 50)


@pytest.mark.parametrize("detector", ERRORS, ids=repr)
def test_a_detector_of_errors_takes_nothing_else(detector: Following) -> None:
    with pytest.raises(ConfigError, match=r"errors of 0 or 1, got 0.37 at place 2"):
        detector.advance(None, [0.0, 1.0, 0.37])


# States ---------------------------------------------------------------------------------


def test_a_state_of_other_parameters_is_refused() -> None:
    state, _ = ADWIN().advance(None, [0.0])
    assert ADWIN(on="age").advance(state, [0.0])
    with pytest.raises(ConfigError, match=r"state of ADWIN\(delta=0.01,.*got that of ADWIN"):
        ADWIN(delta=0.01).advance(state, [0.0])
    with pytest.raises(ConfigError, match=r"expected the state of DDM"):
        DDM().advance(state, [0.0])


class _Runs:
    """Pickles as the call of a function, as an attacker's bytes do."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def planted(value: object) -> bytes:
    """Return a state of ADWIN whose detector is something else."""
    state, _ = ADWIN().advance(None, [0.0])
    kept = msgspec.msgpack.decode(state)
    return msgspec.msgpack.encode(kept | {"pickled": pickle.dumps(value)})


@pytest.mark.parametrize(
    "value",
    [
        _Runs(print, "opened"),
        _Runs(eval, "1 + 1"),
        _Runs(getattr, [], "append"),
        _Runs(getattr, river_drift.ADWIN(), "clone"),
        _Runs(__import__, "os"),
        river_drift.datasets.AirlinePassengers,
        datetime(2024, 1, 1, tzinfo=UTC),
        np.zeros(3),
    ],
    ids=["print", "eval", "getattr", "method", "import", "class", "time", "array"],
)
def test_a_state_that_holds_anything_else_is_not_opened(
    value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"of River"):
        ADWIN().advance(planted(value), [0.0])
    assert capsys.readouterr().out == ""


def test_names_that_reach_through_a_module_of_rivers_are_not_opened() -> None:
    for name in ("base.typing", "math.sqrt", "math", "stats"):
        module = "river.drift.binary.ddm"
        content = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
        content += b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        kept = msgspec.msgpack.decode(DDM().advance(None, [0.0])[0])
        state = msgspec.msgpack.encode(kept | {"pickled": content})
        with pytest.raises(ArtifactCorrupt, match=r"one that holds river.drift.binary.ddm"):
            DDM().advance(state, [0.0])


def test_a_torn_state_is_said_to_be_torn(seed: int) -> None:
    state, _ = PageHinkley().advance(None, numbers(seed))
    kept = msgspec.msgpack.decode(state)
    torn = msgspec.msgpack.encode(kept | {"pickled": kept["pickled"][:50]})
    for bad in (state[:40], b"", torn):
        with pytest.raises(ArtifactCorrupt, match="expected"):
            PageHinkley().advance(bad, [0.0])


def test_a_state_does_not_grow_with_the_stream(seed: int) -> None:
    rng = random.Random(seed)
    for detector in (ADWIN(), PageHinkley(), KSWIN()):
        sizes, state = [], None
        for _ in range(3):
            values = [rng.random() for _ in range(300 if detector == KSWIN() else 20_000)]
            state, _ = detector.advance(state, values)
            sizes.append(len(state))
        assert max(sizes) < 10_000


# A column of rows -----------------------------------------------------------------------


def rows(values: Sequence[float | None], **others: Any) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64), **others})


def test_a_column_is_followed_from_where_the_reference_left_it(seed: int) -> None:
    detector = ADWIN(on="x")
    reference = drift.Reference.fit(rows(numbers(seed, 1_000, 0)), detectors=[detector])
    stored = drift.Reference.loads(reference.dumps())
    [still] = detector.check(stored, rows(numbers(seed + 1, 300, 0)))
    [away] = detector.check(stored, rows(numbers(seed + 1, 0, 300)))
    assert (still.column, still.method, still.value, still.drifted) == ("x", "ADWIN", 0.0, False)
    assert (away.value, away.drifted) == (1.0, True)
    # Alone the batch is of one piece: it is the reference that it differs from.
    assert ADWIN().advance(None, numbers(seed + 1, 0, 300))[1] == []


def test_rows_are_followed_in_order_of_time(seed: int) -> None:
    detector = PageHinkley(on="x", threshold=20)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    values = numbers(seed, 200, 200)
    times = [start + timedelta(minutes=i) for i in range(len(values))]
    current = rows(values, _time=times)
    reference = drift.Reference.fit(current.head(100), detectors=[detector])
    shuffled = current.sample(fraction=1, shuffle=True, seed=1)
    assert detector.check(reference, shuffled) == detector.check(reference, current)
    assert detector.fit(shuffled) == detector.fit(current)


def test_flags_and_whole_numbers_are_numbers_too(seed: int) -> None:
    late = pl.DataFrame({"late": [value > 0 for value in errors(seed, 400, 0)]})
    later = pl.DataFrame({"late": [value > 0 for value in errors(seed, 0, 400)]})
    for detector in (HDDM_A(on="late"), ADWIN(on="late")):
        reference = drift.Reference.fit(late, detectors=[detector])
        assert detector.check(reference, later)[0].drifted
        assert detector.check(
            drift.Reference.fit(late.cast(pl.Int64), detectors=[detector]), later.cast(pl.UInt8)
        )[0].drifted


@pytest.mark.parametrize(
    "current",
    [
        pl.DataFrame({"y": [1.0] * 50}),
        pl.DataFrame({"x": ["a"] * 50}),
        rows([None] * 50),
        rows([math.nan, math.inf] * 25),
    ],
    ids=["gone", "texts", "all missing", "nothing finite"],
)
def test_a_column_that_cannot_be_followed_is_drift(current: pl.DataFrame, seed: int) -> None:
    detector = ADWIN(on="x")
    reference = drift.Reference.fit(rows(numbers(seed)), detectors=[detector])
    [found] = detector.check(reference, current)
    assert (found.column, found.method, found.drifted) == ("x", "missing", True)


def test_there_is_nothing_to_say_without_rows_a_state_or_a_column_of_that_name(seed: int) -> None:
    current = rows(numbers(seed))
    reference = drift.Reference.fit(current, detectors=[ADWIN(on="x"), ADWIN(), DDM(on="score")])
    assert ADWIN(on="x").check(reference, current.clear()) == ()
    assert ADWIN().check(reference, current) == ()
    assert DDM(on="score").check(reference, current) == ()
    assert KSWIN(on="x").check(reference, current) == ()


def test_a_long_reference_is_warmed_with_its_newest_rows(seed: int) -> None:
    values = numbers(seed, WARM + 500, 0)
    detector = ADWIN(on="x")
    assert detector.progress(detector.fit(rows(values))).seen == WARM
    assert detector.fit(rows(values)) == detector.fit(rows(values[500:]))


@pytest.mark.parametrize(
    "detector", [ADWIN(on="number"), PageHinkley(on="flag"), ADWIN()], ids=repr
)
def test_a_detector_of_streams_keeps_the_contract(detector: Following) -> None:
    check_detector(detector)
    assert isinstance(detector, Detector)


# Writing --------------------------------------------------------------------------------


def test_a_part_shows_itself_as_the_call_that_makes_it() -> None:
    assert repr(ADWIN()) == "ADWIN()"
    assert repr(ADWIN(0.01, on="age")) == 'ADWIN(0.01, on="age")'
    assert repr(KSWIN(window_size=200)) == "KSWIN(window_size=200)"
    plain = river_drift.ADWIN(delta=0.01)
    assert Stream(plain, on="age").name == 'Stream(ADWIN(delta=0.01), on="age")'
    assert repr(Stream(river_drift.binary.FHDDM())) == "Stream(FHDDM())"
    assert repr(Stream(river_drift.KSWIN(seed=3))) == "Stream(KSWIN(seed=3))"


def test_a_detector_of_rivers_begins_anew(seed: int) -> None:
    used = river_drift.PageHinkley(threshold=20)
    for value in numbers(seed):
        used.update(value)
    fresh = Stream(river_drift.PageHinkley(threshold=20))
    assert Stream(used).advance(None, [0.0] * 40) == fresh.advance(None, [0.0] * 40)


def test_parts_travel_to_other_processes() -> None:
    for detector in (ADWIN(), Stream(river_drift.ADWIN()), Stream(river_drift.binary.HDDMW())):
        content = pickles.dumps(detector)
        again = pickles.loads(content)
        assert repr(again) == repr(detector)
        assert again.advance(None, [0.0, 1.0]) == detector.advance(None, [0.0, 1.0])
        assert pickles.dumps(again) == content


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: ADWIN(delta=0), "ADWIN: expected delta between 0 and 1, got 0"),
        (lambda: ADWIN(clock=0), "ADWIN: expected clock to be a whole number from 1, got 0"),
        (lambda: KSWIN(alpha=2), "KSWIN: expected alpha between 0 and 1, got 2"),
        (lambda: KSWIN(window_size=40), "expected a window of twice stat_size=30"),
        (lambda: KSWIN(seed=None), "KSWIN: expected a seed"),  # type: ignore[arg-type]
        (lambda: PageHinkley(threshold=0), "expected threshold between 0 and inf, got 0"),
        (lambda: PageHinkley(alpha=1.1), "expected alpha above 0 up to 1, got 1.1"),
        (lambda: PageHinkley(mode="sideways"), "expected mode up, down or both, got 'sideways'"),
        (lambda: DDM(warm_start=0), "expected warm_start to be a whole number from 1"),
        (lambda: EDDM(alpha=0.5), "EDDM: expected alpha not below beta=0.9, got 0.5"),
        (lambda: HDDM_A(drift_confidence=1), "expected drift_confidence between 0 and 1"),
        (lambda: HDDM_W(lambda_val=0), "HDDM_W: expected lambda_val between 0 and 1, got 0"),
        (lambda: Stream(river_drift.KSWIN()), r"hint: .*KSWIN\(seed=0\)"),
        (lambda: Stream(river_drift.ADWIN), "expected a detector of river.drift"),
        (lambda: Stream(object()), "expected a detector of river.drift, got builtins.object"),
        (lambda: Stream(ADWIN()), "expected a detector of river.drift, got keepfit.drift"),
    ],
)
def test_what_is_written_wrongly_is_said_at_once(made: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made()


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    state, _ = ADWIN().advance(None, [0.0])
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.setitem(sys.modules, "river.drift", None)
    detector = streaming.ADWIN(delta=0.002)
    for begun in (None, state):
        with pytest.raises(ExtraMissing, match=r'pip install "keepfit\[river\]"'):
            detector.advance(begun, [0.0])
    assert detector.progress(state).seen == 1
