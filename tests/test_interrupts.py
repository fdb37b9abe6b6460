"""Signals that end a command are taken between two facts, and none is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from keepfit import Pipeline, executors, interrupts, sources, triggers
from keepfit.errors import KeepfitError
from keepfit.facts import Entry
from tests.worlds import stream


class Ended(KeyboardInterrupt):
    """What a handler of SIGTERM raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """SIGTERM ends as it does for the command, and both signals are handled as before."""

    def end(*_: object) -> None:
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    known = [signal.getsignal(number) for number in interrupts.TAKEN]
    yield
    assert [signal.getsignal(number) for number in interrupts.TAKEN] == known
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def ended(by: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """Expect that work in order ends by something."""
    with pytest.raises(by) as caught, interrupts.orderly():
        yield
    assert caught.type is by


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class Panic(BaseException):
    """What a library in Rust makes of an exception that its callback raised."""


def test_what_is_not_held_is_taken_at_once() -> None:
    with ended():
        ctrl_c()
        pytest.fail("went on")


def test_what_is_held_waits_for_the_next_check() -> None:
    done = []
    with ended(), interrupts.held():
        ctrl_c()
        done.append("the rest of a fact")
        interrupts.check()
        done.append("another")
    assert done == ["the rest of a fact"]


def test_what_is_held_is_taken_at_its_end() -> None:
    done = []
    with ended():
        with interrupts.held():
            ctrl_c()
            done.append("all of it")
        done.append("more")
    assert done == ["all of it"]


def test_asked_twice_it_is_taken_at_once() -> None:
    with ended(), interrupts.held():
        ctrl_c()
        ctrl_c()
        pytest.fail("went on")


def test_what_may_take_long_is_cut_off() -> None:
    with ended(), interrupts.held(), interrupts.free():
        ctrl_c()
        pytest.fail("went on")


def test_what_came_before_something_long_does_not_wait_for_it() -> None:
    with ended(), interrupts.held():
        ctrl_c()
        with interrupts.free():
            pytest.fail("went on")


def test_what_a_library_lost_is_taken_after_it() -> None:
    with ended(), interrupts.held():
        # As where a callback of ctypes raises.
        with interrupts.free(), contextlib.suppress(KeyboardInterrupt):
            ctrl_c()
        pytest.fail("went on")


@pytest.mark.parametrize("error", [Panic, ValueError], ids=["panic", "error"])
def test_what_a_library_makes_of_it_is_still_an_interrupt(error: type[BaseException]) -> None:
    with ended(), interrupts.held(), interrupts.free():
        try:
            ctrl_c()
        except KeyboardInterrupt:
            raise error from None


def test_an_error_of_ours_is_told_all_the_same() -> None:
    with ended(KeepfitError), interrupts.held():
        ctrl_c()
        raise KeepfitError("the disk is full")


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with ended(Panic), interrupts.held(), interrupts.free():
        raise Panic


@pytest.mark.parametrize(
    ("sent", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Ended)],
    ids=["SIGINT", "SIGTERM"],
)
def test_each_signal_ends_as_its_own_handler_says(
    sent: signal.Signals, raised: type[KeyboardInterrupt]
) -> None:
    with ended(raised), interrupts.held():
        signal.raise_signal(sent)


def test_what_is_taken_once_is_not_taken_again_while_things_are_put_in_order() -> None:
    tidied = []
    with ended(), interrupts.held():
        ctrl_c()
        try:
            interrupts.check()
        finally:
            interrupts.check()
            tidied.append("the lease")
    assert tidied == ["the lease"]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.orderly(), interrupts.held():
            ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_raises_nothing_lets_work_go_on() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("once"))
    try:
        with interrupts.orderly(), interrupts.held():
            ctrl_c()
            assert not heard
            interrupts.check()
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == ["once"]


def test_another_thread_holds_nothing_and_takes_nothing() -> None:
    found: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with interrupts.orderly(), interrupts.held(), interrupts.free():
                interrupts.check()
        except BaseException as error:
            found.append(error)

    with ended(), interrupts.held():
        ctrl_c()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert not found


def test_order_within_order_is_one() -> None:
    with ended(), interrupts.held():
        ctrl_c()
        with interrupts.orderly(), interrupts.held():
            pass
        pytest.fail("went on")


# In the loop ----------------------------------------------------------------------------


def test_ctrl_c_stops_a_run_between_two_facts(tmp_path: Path) -> None:
    """Whatever fact it comes at: no other is written, and the next run goes on from there."""
    whole = churn(tmp_path / "whole")
    seen: list[int] = []
    whole.run(once=True, listen=lambda entry: seen.append(entry.seq))
    assert seen == [entry.seq for entry in facts(whole)]

    def stop(entry: Entry) -> None:
        if entry.seq % 7 == 0:
            ctrl_c()

    stopped = churn(tmp_path / "stopped")
    ends = []
    for _ in seen:
        try:
            stopped.run(once=True, listen=stop)
        except KeyboardInterrupt:
            ends.append(len(facts(stopped)))
        else:
            break
    assert len(ends) >= 3
    assert ends == sorted(set(ends))
    # What waits is looked at first by each run, and may be promoted before what comes next.
    assert sorted(lasting(stopped)) == sorted(lasting(whole))


class Stopped(LogisticRegression):
    """Is stopped by Ctrl-C while it learns."""

    ended = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Stopped:
        ctrl_c()
        Stopped.ended = True
        return self


def test_ctrl_c_does_not_wait_for_a_training(tmp_path: Path) -> None:
    pipeline = churn(tmp_path, Stopped())
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(once=True)
    assert not Stopped.ended
    kinds = [entry.fact.kind for entry in facts(pipeline)]
    assert kinds[-1] == "TrainingStarted"


def churn(home: Path, estimator: Any = None) -> Pipeline:
    return Pipeline(
        "churn",
        sources.Frame(stream(20, 50), id="id", time="time", label="label"),
        estimator or LogisticRegression(),
        metric="roc_auc",
        every="5d",
        trigger=triggers.Every("10d"),
        enough=50,
        home=home,
        executor=executors.Inline(),
    )


def lasting(pipeline: Pipeline) -> list[str]:
    """Return the kinds of facts, without looks at versions that wait: each run looks again."""
    kinds = [entry.fact.kind for entry in facts(pipeline)]
    return [kind for kind in kinds if kind != "Judged"]


def facts(pipeline: Pipeline) -> list[Entry]:
    return list(pipeline.loop().memory.ledger.facts("churn"))
