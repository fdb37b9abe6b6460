"""The ledger keeps facts in order, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

import keepfit.migrations
from keepfit.clock import utc
from keepfit.errors import ConfigError, KeepfitError, LeaseLost, LedgerConflict
from keepfit.facts import (
    Arrived,
    ColumnDrift,
    Cost,
    DetectorAdvanced,
    Fact,
    Found,
    Judged,
    Paused,
    Promoted,
    Scored,
    Signalled,
    Trained,
)
from keepfit.ledger import Ledger
from keepfit.ledger import store as ledger_store
from keepfit.ledger.adding import MOST
from keepfit.migrations import HEAD
from tests.waits import until

START = utc("2024-01-01")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions and signals")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Return the URL of a real PostgreSQL server; as root it runs as a user of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder, which containers lack
        pgserver = pytest.importorskip("pgserver")
    # Not pytest's own folder: that one is closed to the user the server runs as.
    folder = tempfile.mkdtemp(prefix="keepfit-pg-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running = pgserver.get_server(folder, cleanup_mode="delete")
    yield running.get_uri()
    running.cleanup()


_schemas = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a ledger of the test's own may be, on each kind of database."""
    if request.param == "sqlite":
        return str(tmp_path / ".keepfit")
    import psycopg

    server: str = request.getfixturevalue("server")
    schema = f"test_{os.getpid()}_{next(_schemas)}"
    with psycopg.connect(server) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"{server}&options=-csearch_path%3D{schema}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url) as opened:
        yield opened


def signals(count: int, start: int = 1) -> list[Fact]:
    return [Signalled(event=f"event {number}") for number in range(start, start + count)]


def events(ledger: Ledger, pipeline: str = "churn") -> list[str]:
    return [entry.fact.event for entry in ledger.facts(pipeline, kind="Signalled")]  # type: ignore[union-attr]


def run_sql(ledger: Ledger, statement: str) -> None:
    ledger._store.write(lambda connection: connection.execute(statement), lock="churn")


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process of its own that has imported the ledger and the facts."""
    head = (
        "import sys, os, time\n"
        "from keepfit.clock import utc\n"
        "from keepfit.errors import *\n"
        "from keepfit.facts import *\n"
        "from keepfit.ledger import Ledger\n"
        "at = utc('2024-01-01')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(keepfit.__file__).parents[1])},
    )


# Appending and reading


def test_facts_are_read_back_as_they_were_appended(ledger: Ledger) -> None:
    facts: list[Fact] = [
        Arrived(batch=1, rows=10, labels=0, cursor="c1", digest="d", from_=START, watermark=START),
        Found(batch=1, findings=()),
        DetectorAdvanced(
            batch=1,
            detector="KS",
            columns=(ColumnDrift(column="plan", method="KS", value=0.31, limit=0.12),),
        ),
        Trained(
            version="v1",
            artifact="a",
            reference="r",
            cost=Cost(cpu_seconds=1.5),
            code="f",
            parameters={"max_depth": 7, "nested": {"list": [1, None, "ü \u0000 🐟"]}},
        ),
    ]
    assert ledger.append("churn", facts, at=START) == 4
    read = ledger.facts("churn")
    assert [entry.fact for entry in read] == facts
    assert [entry.seq for entry in read] == [1, 2, 3, 4]
    assert {entry.at for entry in read} == {START}
    assert {entry.pipeline for entry in read} == {"churn"}


def test_each_fact_may_have_a_moment_of_its_own_and_all_are_in_utc(ledger: Ledger) -> None:
    moments = [
        datetime(2024, 1, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5))),
        datetime(2024, 1, 2),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]
    ledger.append("churn", signals(3), at=moments)
    read = [entry.at for entry in ledger.facts("churn")]
    assert read == [utc(moment) for moment in moments]
    assert all(moment.tzinfo is UTC for moment in read)


def test_moments_that_do_not_match_the_facts_in_number_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match=r"one moment per fact \(2\), got 1"):
        ledger.append("churn", signals(2), at=[START])


def test_pipelines_number_their_facts_apart(ledger: Ledger) -> None:
    ledger.append("churn", signals(2), at=START)
    assert ledger.append("fraud", signals(1), at=START) == 1
    assert ledger.append("churn", signals(1, start=3), at=START) == 3
    assert (ledger.seq("churn"), ledger.seq("fraud")) == (3, 1)
    assert ledger.pipelines() == ["churn", "fraud"]
    assert events(ledger) == ["event 1", "event 2", "event 3"]


def test_an_append_of_nothing_changes_nothing(ledger: Ledger) -> None:
    ledger.append("churn", signals(2), at=START)
    assert ledger.append("churn", [], at=START) == 2
    assert ledger.seq("churn") == 2


def test_facts_are_chosen_by_number_kind_moment_and_count(ledger: Ledger) -> None:
    day = timedelta(days=1)
    promoted = Promoted(version="v1", reason="first")
    facts = [*signals(2), Paused(reason="holidays"), *signals(1, start=3), promoted]
    ledger.append("churn", facts, at=[START + day * number for number in range(5)])

    def numbers(**filters: object) -> list[int]:
        return [entry.seq for entry in ledger.facts("churn", **filters)]  # type: ignore[arg-type]

    assert numbers(after=3) == [4, 5]
    assert numbers(after=5) == []
    assert numbers(kind="Signalled") == [1, 2, 4]
    assert numbers(kind=["Paused", "Promoted"]) == [3, 5]
    assert numbers(kind=[]) == []
    assert numbers(since=START + 2 * day) == [3, 4, 5]
    assert numbers(since=datetime(2024, 1, 5)) == [5]
    assert numbers(limit=2) == [1, 2]
    assert numbers(limit=2, newest_first=True) == [5, 4]
    assert numbers(kind="Signalled", after=1, since=START, limit=1, newest_first=True) == [4]


def test_a_misspelt_kind_is_refused_with_the_nearest_one(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="'Promotd'") as caught:
        ledger.facts("churn", kind="Promotd")
    assert caught.value.hint == "did you mean 'Promoted'?"


class Stranger(Fact):
    """A kind that the ledger does not know."""


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param(Stranger(), id="unknown kind"),
        pytest.param(Signalled(event="e", data={"x": object()}), id="no JSON"),
        pytest.param(Signalled(event="\ud800"), id="no text"),
        pytest.param(
            DetectorAdvanced(
                batch=1,
                detector="KS",
                columns=(ColumnDrift(column="c", method="KS", value=float("nan"), limit=1.0),),
            ),
            id="not finite",
        ),
    ],
)
def test_a_fact_that_could_not_be_read_back_is_never_written(ledger: Ledger, fact: Fact) -> None:
    with pytest.raises(ConfigError):
        ledger.append("churn", [*signals(1), fact], at=START)
    assert ledger.seq("churn") == 0
    assert ledger.check() == []


def test_a_ledger_is_as_it_was_when_it_is_opened_again(url: str) -> None:
    with Ledger(url) as first:
        first.append("churn", signals(3), at=START)
    with Ledger(url) as second:
        assert second.append("churn", signals(1, start=4), at=START) == 4
        assert len(events(second)) == 4


def test_a_ledger_that_need_not_survive_a_loss_of_power_keeps_the_same_facts(url: str) -> None:
    with Ledger(url, durable=False) as ledger:
        ledger.append("churn", signals(2), at=START)
        assert events(ledger) == ["event 1", "event 2"]


def test_a_fold_is_cached_with_its_number_and_an_older_one_is_not_kept(ledger: Ledger) -> None:
    assert ledger.fold("churn", "state") is None
    ledger.save_fold("churn", "state", 3, b"\x00three")
    assert ledger.fold("churn", "state") == (3, b"\x00three")
    ledger.save_fold("churn", "state", 5, b"five")
    ledger.save_fold("churn", "state", 4, b"four")
    assert ledger.fold("churn", "state") == (5, b"five")
    assert ledger.fold("fraud", "state") is None


def test_a_closed_ledger_says_that_it_is_closed(url: str) -> None:
    ledger = Ledger(url)
    ledger.append("churn", signals(1), at=START)
    ledger.close()
    ledger.close()
    with pytest.raises(KeepfitError, match="is closed"):
        ledger.seq("churn")


# Results


def test_facts_print_as_a_sentence_and_slice_into_facts(ledger: Ledger) -> None:
    ledger.append("churn", [*signals(2), Paused(reason="x")], at=START)
    facts = ledger.facts("churn")
    assert repr(facts) == (
        "3 facts of 'churn', numbers 1 to 3 (2024-01-01 00:00 to 2024-01-01 00:00): "
        "2 Signalled, 1 Paused"
    )
    assert repr(facts[:1]) == "1 fact of 'churn', number 1 (2024-01-01 00:00): 1 Signalled"
    assert repr(ledger.facts("fraud")) == "no facts of 'fraud'"
    assert facts[-1].fact == Paused(reason="x")
    assert facts[1:] == ledger.facts("churn", after=1)
    assert facts != facts[1:]


def test_facts_turn_into_a_frame_with_a_column_for_every_field(ledger: Ledger) -> None:
    import polars as pl

    ledger.append(
        "churn",
        [
            Scored(batch=1, version="v1", metric="roc_auc", value=0.7, n=10, from_=START),
            Judged(version="v2", answer="promote", verdicts=(), rows=5),  # type: ignore[arg-type]
            Signalled(event="sale", data={"share": 0.5}),
        ],
        at=START,
    )
    frame = ledger.facts("churn").to_frame()
    assert frame["kind"].to_list() == ["Scored", "Judged", "Signalled"]
    assert frame["value"].to_list() == [0.7, None, None]
    assert frame["version"].to_list() == ["v1", "v2", None]
    assert frame["answer"].to_list() == [None, "promote", None]
    assert frame["data"].to_list() == [None, None, '{"share":0.5}']
    assert frame.schema["at"] == frame.schema["from_"] == pl.Datetime("us", "UTC")
    assert frame.schema["batch"] == pl.Int64


def test_a_frame_of_no_facts_has_the_columns_that_were_asked_for(ledger: Ledger) -> None:
    frame = ledger.facts("churn", kind="Promoted").to_frame()
    assert frame.height == 0
    assert frame.columns == [
        "seq",
        "at",
        "kind",
        "version",
        "reason",
        "previous",
        "by",
        "forced",
        "reference",
    ]


# Several writers


def test_a_decision_made_on_an_old_number_conflicts_and_writes_nothing(ledger: Ledger) -> None:
    ledger.append("churn", signals(2), at=START)
    with pytest.raises(LedgerConflict, match="is at fact 2, expected 1") as caught:
        ledger.append("churn", signals(1), at=START, expected_seq=1)
    assert "decide again" in (caught.value.hint or "")
    assert ledger.seq("churn") == 2
    assert ledger.append("churn", signals(1), at=START, expected_seq=2) == 3


def test_what_is_appended_together_has_its_numbers_at_once_and_is_written_at_the_end(
    url: str,
) -> None:
    with Ledger(url) as ledger, Ledger(url) as reader:
        ledger.append("churn", signals(1), at=START)
        with ledger.together():
            assert ledger.append("churn", signals(2, start=2), at=START, expected_seq=1) == 3
            assert ledger.append("other", signals(1), at=START) == 1
            assert ledger.append("churn", signals(1, start=4), at=START, expected_seq=3) == 4
            assert reader.seq("churn") == 1
            with pytest.raises(LedgerConflict, match="is at fact 4, expected 3"):
                ledger.append("churn", signals(1), at=START, expected_seq=3)
        assert ledger.append("churn", signals(1, start=5), at=START) == 5
        assert events(ledger) == [f"event {i}" for i in range(1, 6)]
        assert ledger.pipelines() == ["churn", "other"]


def test_reading_among_appends_together_finds_those_before_it(ledger: Ledger) -> None:
    with ledger.together():
        ledger.append("churn", signals(2), at=START)
        assert ledger.seq("churn") == 2
        ledger.append("churn", signals(1, start=3), at=START)
        assert len(ledger.facts("churn", after=1)) == 2
        assert ledger.check() == []
    assert ledger.seq("churn") == 3


def test_many_that_are_appended_together_do_not_all_wait_for_the_end(url: str) -> None:
    with Ledger(url) as ledger, Ledger(url) as reader, ledger.together():
        ledger.append("churn", signals(MOST - 1), at=START)
        assert reader.seq("churn") == 0
        ledger.append("churn", signals(1, start=MOST), at=START)
        assert reader.seq("churn") == MOST
        assert ledger.append("churn", signals(1, start=MOST + 1), at=START) == MOST + 1
        assert reader.seq("churn") == MOST


def test_what_comes_behind_the_last_that_was_appended_together_is_not_looked_for(
    ledger: Ledger,
) -> None:
    with ledger.together():
        ledger.append("churn", signals(2), at=START)
        assert list(ledger.facts("churn", after=2)) == []
        assert [entry.seq for entry in ledger.facts("churn", after=1)] == [2]
        assert list(ledger.facts("churn", after=2)) == []


def test_what_was_appended_together_before_an_error_is_kept(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.together():
            ledger.append("churn", signals(2), at=START)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert events(ledger) == ["event 1", "event 2"]


def test_together_is_for_one_writer_and_says_so_where_there_is_another(url: str) -> None:
    with Ledger(url) as ledger, Ledger(url) as other:

        def collide() -> None:
            with ledger.together():
                ledger.append("churn", signals(1), at=START)
                other.append("churn", signals(1, start=7), at=START)

        with pytest.raises(LedgerConflict, match="another writer appended"):
            collide()
        assert events(ledger) == ["event 7"]


def test_other_threads_do_not_wait_with_those_that_append_together(ledger: Ledger) -> None:
    def look() -> int:
        ledger.append("other", signals(1), at=START)
        return ledger.seq("churn")

    with ledger.together(), ThreadPoolExecutor(1) as pool:
        ledger.append("churn", signals(1), at=START)
        assert pool.submit(look).result() == 0
        pool.submit(ledger.seq, "other").result()
    assert (ledger.seq("churn"), ledger.seq("other")) == (1, 1)


def test_of_many_decisions_on_the_same_number_one_is_kept(ledger: Ledger) -> None:
    def decide(number: int) -> bool:
        try:
            ledger.append("churn", signals(1, start=number), at=START, expected_seq=0)
        except LedgerConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(decide, range(16)))
    assert kept.count(True) == 1
    assert ledger.seq("churn") == 1


def test_observations_of_many_threads_are_all_kept(ledger: Ledger) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(
            pool.map(lambda n: ledger.append("churn", signals(2, start=2 * n), at=START), range(30))
        )
    assert ledger.seq("churn") == 60
    assert len(set(events(ledger))) == 60
    assert ledger.check() == []


@POSIX
def test_four_processes_open_a_fresh_ledger_at_once_and_all_they_append_is_kept(url: str) -> None:
    script = (
        "import sqlalchemy.dialects.postgresql, psycopg\n"
        "wait, go = os.pipe()\n"
        "children = []\n"
        "for number in range(4):\n"
        "    children.append(os.fork())\n"
        "    if children[-1] == 0:\n"
        "        os.close(go)\n"
        "        os.read(wait, 1)\n"  # all begin when the last of them has been made
        "        with Ledger(sys.argv[1]) as ledger:\n"
        "            for n in range(10):\n"
        "                events = [Signalled(event=f'{number}.{n}.{i}') for i in 'ab']\n"
        "                ledger.append('churn', events, at=at)\n"
        "        os._exit('alembic' in sys.modules)\n"
        "os.close(go)\n"
        "sys.exit(any(os.waitpid(child, 0)[1] for child in children))\n"
    )
    process = python(script, url)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with Ledger(url) as ledger:
        assert ledger.seq("churn") == 80
        assert ledger.check() == []
        found = events(ledger)
    for number in range(4):
        mine = [event for event in found if event.startswith(f"{number}.")]
        assert mine == [f"{number}.{n}.{i}" for n in range(10) for i in "ab"]
    assert all(a[:-1] == b[:-1] for a, b in zip(found[::2], found[1::2], strict=True))


@POSIX
def test_a_process_killed_while_it_appends_leaves_whole_appends_and_all_it_reported(
    url: str,
) -> None:
    script = (
        "ledger = Ledger(sys.argv[1])\n"
        "for n in range(1_000_000):\n"
        "    facts = [Signalled(event=f'{n}.{i}') for i in range(3)]\n"
        "    print(ledger.append('churn', facts, at=at), flush=True)\n"
    )
    process = python(script, url)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(25)]
    process.kill()
    reported += [int(line) for line in process.communicate()[0].split()]
    with Ledger(url) as ledger:
        last = ledger.seq("churn")
        assert last % 3 == 0
        assert last >= reported[-1]
        assert events(ledger) == [f"{n}.{i}" for n in range(last // 3) for i in range(3)]
        assert ledger.check() == []
        assert ledger.append("churn", signals(1), at=START) == last + 1


# Leases


def test_a_lease_is_held_by_one_and_is_free_again_afterwards(ledger: Ledger) -> None:
    with ledger.lease("churn", holder="the night shift") as first:
        assert first.held
        with pytest.raises(LeaseLost, match="the night shift holds pipeline 'churn' until 20"):
            ledger.lease("churn")
        with ledger.lease("fraud") as other:
            assert other.token == 1
    assert not first.held
    with ledger.lease("churn") as second:
        assert second.token > first.token


def test_of_many_threads_one_gets_the_lease(url: str) -> None:
    with Ledger(url) as ledger:
        leases = []

        def take(_: int) -> bool:
            try:
                leases.append(ledger.lease("churn"))
            except LeaseLost:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(take, range(8))).count(True) == 1
        assert leases[0].held
    assert not leases[0].held, "closing the ledger gives its leases back"


def test_an_append_with_a_lease_that_was_taken_over_is_refused(ledger: Ledger) -> None:
    old = ledger.lease("churn", seconds=3600)
    ledger.append("churn", signals(1), at=START, lease=old)
    run_sql(
        ledger, "UPDATE leases SET host = 'elsewhere', expires_at = '2020-01-01T00:00:00+00:00'"
    )
    with ledger.lease("churn", holder="the day shift") as new:
        assert new.token == old.token + 1
        with pytest.raises(LeaseLost, match="the day shift holds"):
            ledger.append("churn", signals(1), at=START, lease=old)
        with pytest.raises(LeaseLost):
            old.renew()
        assert not old.held
        old.release()
        assert new.held
        assert ledger.append("churn", signals(1), at=START, lease=new) == 2
    with pytest.raises(LeaseLost, match="given back"):
        ledger.append("churn", signals(1), at=START, lease=new)
    assert ledger.seq("churn") == 2


def test_a_holder_elsewhere_is_waited_for_until_its_time_has_run_out(ledger: Ledger) -> None:
    ledger.lease("churn", seconds=3600)
    run_sql(ledger, "UPDATE leases SET host = 'elsewhere', pid = 999999999")
    with pytest.raises(LeaseLost):
        ledger.lease("churn")


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_good(ledger: Ledger) -> None:
    with ledger.lease("churn", seconds=3600) as lease:
        run_sql(ledger, "UPDATE leases SET expires_at = '2020-01-01T00:00:00+00:00'")
        assert ledger.append("churn", signals(1), at=START, lease=lease) == 1
        lease.renew()
        assert lease.until > datetime.now(UTC)


def test_a_process_that_reuses_the_number_of_a_dead_holder_is_not_taken_for_it(
    ledger: Ledger,
) -> None:
    ledger.lease("churn", seconds=3600)
    run_sql(ledger, "UPDATE leases SET started = started - 60")
    with ledger.lease("churn") as lease:
        assert lease.token == 2


def test_a_held_lease_is_renewed_in_the_background(ledger: Ledger) -> None:
    with ledger.lease("churn", seconds=0.15) as lease:
        first = lease.until
        until(lambda: lease.until >= first + timedelta(seconds=0.1))
        assert lease.held


@POSIX
def test_a_killed_holder_on_this_machine_is_taken_over_at_once(url: str) -> None:
    process = python(
        "lease = Ledger(sys.argv[1]).lease('churn', seconds=3600)\n"
        "print(lease.token, flush=True)\n"
        "sys.stdin.readline()\n",
        url,
    )
    assert process.stdout is not None
    token = int(process.stdout.readline())
    with Ledger(url) as ledger:
        with pytest.raises(LeaseLost, match=f"process {process.pid} on"):
            ledger.lease("churn")
        process.kill()
        # Dead, and not yet reaped by its parent: it still has a process number.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with ledger.lease("churn") as lease:
            assert lease.token == token + 1
    process.communicate()


def test_a_lease_on_another_pipeline_or_of_no_length_is_refused(ledger: Ledger) -> None:
    with (
        ledger.lease("fraud") as lease,
        pytest.raises(ConfigError, match="on 'churn', got one on 'fraud'"),
    ):
        ledger.append("churn", signals(1), at=START, lease=lease)
    with pytest.raises(ConfigError, match="more than 0 seconds"):
        ledger.lease("churn", seconds=0)


# Places


def test_reading_a_ledger_that_does_not_exist_finds_nothing_and_creates_nothing(
    tmp_path: Path,
) -> None:
    home = tmp_path / ".keepfit"
    with Ledger(home) as ledger:
        assert len(ledger.facts("churn")) == ledger.seq("churn") == 0
        assert ledger.pipelines() == ledger.check() == []
        assert ledger.fold("churn", "state") is None
        assert not home.exists()
        ledger.append("churn", signals(1), at=START)
        assert (home / "ledger.db").is_file()


def test_a_ledger_may_be_named_by_folder_file_or_url(tmp_path: Path) -> None:
    file = tmp_path / "home" / "ledger.db"
    for place in (tmp_path / "home", str(file), file, f"sqlite:///{file}"):
        with Ledger(place) as ledger:
            ledger.append("churn", signals(1), at=START)
            assert str(file) in repr(ledger)
    with Ledger(file) as ledger:
        assert ledger.seq("churn") == 4


def test_a_relative_path_stays_where_it_was_when_the_folder_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(".keepfit") as ledger:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        ledger.append("churn", signals(1), at=START)
    assert (tmp_path / ".keepfit" / "ledger.db").is_file()


@pytest.mark.parametrize("place", ["", "mysql://host/name", "sqlite:///ledger.db?mode=ro"])
def test_a_place_where_no_ledger_can_be_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="expected a place for the ledger") as caught:
        Ledger(place)
    assert "postgresql://" in (caught.value.hint or "")


def test_a_password_is_never_shown() -> None:
    assert (
        repr(Ledger("postgres://ann:secret@host/name"))
        == "Ledger('postgresql://ann:***@host/name')"
    )


def test_a_ledger_in_memory_is_shared_by_threads_and_by_nobody_else() -> None:
    with Ledger(":memory:") as ledger, Ledger(":memory:") as other:
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(lambda n: ledger.append("churn", signals(1, start=n), at=START), range(40))
            )
        assert ledger.seq("churn") == 40
        assert other.seq("churn") == 0
        with ledger.lease("churn") as lease:
            assert ledger.append("churn", signals(1), at=START, lease=lease) == 41


@POSIX
def test_a_forked_process_has_connections_of_its_own(tmp_path: Path) -> None:
    script = (
        "ledger = Ledger(sys.argv[1])\n"
        "lease = ledger.lease('churn')\n"
        "ledger.append('churn', [Signalled(event='parent')], at=at)\n"
        "child = os.fork()\n"
        "ledger.append('churn', [Signalled(event='child' if child == 0 else 'again')], at=at)\n"
        "if child == 0:\n"
        "    ledger.close()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "ledger.append('churn', [Signalled(event='end')], at=at, lease=lease)\n"
        "ledger.close()\n"
    )
    process = python(script, str(tmp_path))
    process.communicate(timeout=60)
    assert process.returncode == 0
    with Ledger(tmp_path) as ledger:
        assert sorted(events(ledger)) == ["again", "child", "end", "parent"]
        assert ledger.check() == []


# Trouble


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    ledger = Ledger(f"postgresql://ann:secret@/name?host={tmp_path}")
    with pytest.raises(KeepfitError, match="cannot be used") as caught:
        ledger.seq("churn")
    assert "secret" not in str(caught.value)
    assert "server" in (caught.value.hint or "")


def test_a_connection_that_the_server_closed_is_opened_anew(server: str) -> None:
    import psycopg

    schema = f"test_{os.getpid()}_{next(_schemas)}"
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE application_name = '{schema}'"
    )
    url = f"{server}&application_name={schema}&options=-csearch_path%3D{schema}"
    with psycopg.connect(server, autocommit=True) as admin, Ledger(url) as ledger:
        admin.execute(f"CREATE SCHEMA {schema}")
        ledger.append("churn", signals(1), at=START)
        assert admin.execute(kill).fetchone() == (1,)
        assert ledger.seq("churn") == 1
        assert admin.execute(kill).fetchone() == (1,)
        assert ledger.append("churn", signals(1), at=START) == 2


def test_a_full_disk_is_said_and_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append("churn", signals(1), at=START)
        ledger._store.read(lambda c: c.execute("PRAGMA max_page_count=1"))
        with pytest.raises(KeepfitError, match="the disk is full") as caught:
            ledger.append("churn", signals(5_000), at=START)
        assert "free some space" in (caught.value.hint or "")
        assert ledger.seq("churn") == 1
        assert ledger.append("churn", signals(5_000), at=START) == 5_001
        assert ledger.check() == []


@POSIX
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_interrupt_at_any_moment_leaves_whole_appends_and_a_ledger_that_goes_on(
    kind: str, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        with Ledger(":memory:" if kind == "memory" else tmp_path, durable=False) as ledger:
            reported = ledger.append("churn", signals(3), at=START)
            for turn in range(25):
                try:
                    try:
                        signal.setitimer(signal.ITIMER_VIRTUAL, 0.001 + turn * 1e-5, 0.01)
                        while True:
                            reported = ledger.append("churn", signals(3), at=START)
                            ledger.facts("churn", after=reported - 3)
                    finally:
                        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                except KeyboardInterrupt:
                    pass
                assert ledger.seq("churn") % 3 == 0
                assert ledger.seq("churn") >= reported
            assert ledger.seq("churn") > 3
            assert ledger.check() == []
    finally:
        signal.signal(signal.SIGVTALRM, before)


def test_a_file_of_another_kind_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_text("seen_at,churned\n" * 100)
    ledger = Ledger(file)
    with pytest.raises(KeepfitError, match="is not a ledger, but a file of another kind"):
        ledger.append("churn", signals(1), at=START)
    assert len(ledger.check()) == 1
    assert file.read_text().startswith("seen_at")


def test_a_database_with_a_table_of_facts_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE facts (claim TEXT)")
    with pytest.raises(KeepfitError, match="not a ledger's"):
        Ledger(tmp_path / "app.db").append("churn", signals(1), at=START)


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """Return a folder that every user of this machine may reach."""
    folder = Path(tempfile.mkdtemp(prefix="keepfit-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Act as a user whom permissions bind, which root is not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@POSIX
def test_a_ledger_that_may_not_be_written_says_so(readable_folder: Path) -> None:
    with Ledger(readable_folder) as ledger:
        ledger.append("churn", signals(1), at=START)
    (readable_folder / "ledger.db").chmod(0o444)
    readable_folder.chmod(0o555)
    with an_ordinary_user(), Ledger(readable_folder) as ledger:
        with pytest.raises(KeepfitError, match=r"is read-only|cannot be opened") as caught:
            ledger.append("churn", signals(1), at=START)
        assert "work on a copy" in (caught.value.hint or "")
    with an_ordinary_user(), pytest.raises(KeepfitError, match="cannot be made"):
        Ledger(readable_folder / "deeper").append("churn", signals(1), at=START)


def test_a_ledger_of_a_newer_keepfit_is_left_alone(url: str) -> None:
    with Ledger(url) as ledger:
        ledger.append("churn", signals(1), at=START)
        run_sql(ledger, "UPDATE keepfit_version SET version_num = '0099'")
    with Ledger(url) as ledger, pytest.raises(KeepfitError, match="has version 0099") as caught:
        ledger.seq("churn")
    assert "upgrade" in (caught.value.hint or "")


def test_check_names_gaps_and_facts_that_cannot_be_read(ledger: Ledger) -> None:
    ledger.append("churn", signals(6), at=START)
    assert ledger.check() == []
    run_sql(ledger, "DELETE FROM facts WHERE seq IN (2, 3)")
    run_sql(ledger, 'UPDATE facts SET body = \'{"kind":"Nonsense"}\' WHERE seq = 5')
    run_sql(ledger, "UPDATE facts SET kind = 'Paused' WHERE seq = 6")
    gap, unread, misfiled = ledger.check()
    assert gap == "churn: facts 2 to 3 are missing"
    assert unread.startswith("churn: fact 5 cannot be read: ")
    assert misfiled == "churn: fact 6 is Signalled, but filed as Paused"
    with pytest.raises(KeepfitError, match="fact 5 of pipeline 'churn' cannot be read") as caught:
        ledger.facts("churn")
    assert "keepfit doctor" in (caught.value.hint or "")


def test_check_names_a_damaged_file(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append("churn", signals(2_000), at=START)
    file = tmp_path / "ledger.db"
    content = bytearray(file.read_bytes())
    content[20_000:60_000] = b"\xff" * 40_000
    file.write_bytes(content)
    with Ledger(tmp_path) as ledger:
        assert ledger.check() != []


# Migrations


def tables_of(url: str) -> list[object]:
    """Return the tables of a ledger, and all that differs in them from those of a new one."""
    import sqlalchemy as sa

    at = url.replace("postgresql:", "postgresql+psycopg:", 1)
    engine = sa.create_engine(at if "://" in url else f"sqlite:///{url}/ledger.db")
    found = sa.inspect(engine)
    kept = [
        (
            name,
            [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            [(i["name"], i["column_names"]) for i in found.get_indexes(name)],
        )
        for name in sorted(found.get_table_names())
    ]
    engine.dispose()
    return kept


def test_the_migrations_make_the_tables_that_a_new_ledger_has(url: str) -> None:
    with Ledger(url) as ledger:
        ledger.append("churn", signals(1), at=START)
        new = tables_of(url)
        for table in ("facts", "folds", "leases", keepfit.migrations.VERSION_TABLE):
            run_sql(ledger, f"DROP TABLE {table}")
        ledger._store.write(lambda connection: connection.upgrade(HEAD), lock="churn")
        assert tables_of(url) == new
        assert ledger.append("churn", signals(1), at=START) == 1


def test_an_older_ledger_is_migrated_when_it_is_opened(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(url) as old:
        old.append("churn", signals(2), at=START)
    versions = tmp_path / "versions"
    shutil.copytree(keepfit.migrations.VERSIONS, versions)
    (versions / "r0002_note.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "revision, down_revision = '0002', '0001'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('facts') as table:\n"
        "        table.add_column(sa.Column('note', sa.Text, server_default='none'))\n"
    )
    monkeypatch.setattr(keepfit.migrations, "VERSIONS", versions)
    monkeypatch.setattr(ledger_store, "HEAD", "0002")
    with Ledger(url) as ledger:
        assert events(ledger) == ["event 1", "event 2"]
        run_sql(ledger, "UPDATE facts SET note = 'kept'")
        assert ledger.append("churn", signals(1, start=3), at=START) == 3


def test_a_migration_that_breaks_off_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(tmp_path) as old:
        old.append("churn", signals(2), at=START)
    versions = tmp_path / "versions"
    shutil.copytree(keepfit.migrations.VERSIONS, versions)
    (versions / "r0002_note.py").write_text(
        "from alembic import op\n"
        "revision, down_revision = '0002', '0001'\n"
        "def upgrade():\n"
        "    op.drop_table('folds')\n"
        "    raise RuntimeError('power cut')\n"
    )
    with monkeypatch.context() as patched, Ledger(tmp_path) as ledger:
        patched.setattr(keepfit.migrations, "VERSIONS", versions)
        patched.setattr(ledger_store, "HEAD", "0002")
        with pytest.raises(RuntimeError, match="power cut"):
            ledger.seq("churn")
    with Ledger(tmp_path) as ledger:
        assert events(ledger) == ["event 1", "event 2"]
        assert ledger.fold("churn", "state") is None


def test_facts_are_json_that_any_tool_can_read(tmp_path: Path) -> None:
    import sqlite3

    with Ledger(tmp_path) as ledger:
        ledger.append("churn", [Signalled(event="sale")], at=START)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        row = connection.execute("SELECT pipeline, seq, at, kind, body FROM facts").fetchone()
        assert row[:4] == ("churn", 1, "2024-01-01T00:00:00.000000+00:00", "Signalled")
        assert msgspec.json.decode(row[4]) == {"kind": "Signalled", "event": "sale"}
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("levels", [33, 200, 970, 50_000])
def test_a_deep_event_of_an_older_version_is_read_as_far_as_one_can_follow(
    tmp_path: Path, levels: int
) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.append("churn", [Signalled(event="prices", data={"a": "[{"})], at=START)
        deep = "[" * levels + "]" * levels
        body = f'{{"kind":"Signalled","event":"prices","data":{{"id":"7","data":{deep},"z":1}}}}'
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE facts SET body = ?", (body,))
        (entry,) = ledger.facts("churn")
        assert isinstance(entry.fact, Signalled)
        assert (entry.fact.data["id"], entry.fact.data["z"]) == ("7", 1)
        assert "…" in repr(entry.fact.data["data"])
        assert ledger.check() == []
        assert msgspec.json.encode(entry.fact)


def test_an_event_that_nobody_could_follow_is_refused(ledger: Ledger) -> None:
    data: Any = []
    for _ in range(40):
        data = [data]
    with pytest.raises(ConfigError, match="nested deeper"):
        ledger.append("churn", [Signalled(event="prices", data={"data": data})], at=START)
    assert ledger.seq("churn") == 0
