"""What a person sees: lines in columns, colour where it can be, a bar only on a terminal."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from keepfit import facts, terminal
from keepfit.errors import ConfigError, KeepfitError, SchemaMismatch
from keepfit.results import Line
from keepfit.results.sentences import Story
from keepfit.terminal import laid_out
from tests.lives import START, Life, churn, golden


class Screen(io.StringIO):
    """A terminal that keeps what was written."""

    def isatty(self) -> bool:
        return True


@dataclass
class Step:
    """Progress as a backtest reports it."""

    policy: str
    done_rows: int
    rows: int = 10_000
    at: datetime = START


class Watch:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def narrated(life: Life, **options: object) -> str:
    out = io.StringIO()
    narrator = terminal.Narrator("churn", stream=out, **options)  # type: ignore[arg-type]
    for entry in life.entries:
        narrator.entry(entry)
    narrator.close()
    return out.getvalue()


# Narration ------------------------------------------------------------------------------


def test_a_backtest_reads_as_events_with_a_line_a_month_between() -> None:
    shown = narrated(churn())
    golden("narration", shown)
    assert max(map(len, shown.splitlines())) <= terminal.WIDTH
    assert len(shown.splitlines()) < 20


def test_who_asks_for_everything_gets_every_fact() -> None:
    life = churn()
    assert len(narrated(life, verbosity=2).splitlines()) == len(life.entries)


def test_facts_of_other_policies_are_not_told() -> None:
    out = io.StringIO()
    narrator = terminal.Narrator("flights", stream=out)
    for entry in churn().entries:
        narrator.entry(entry)
    narrator.close()
    assert out.getvalue() == ""


def test_a_live_loop_tells_quiet_facts_when_it_has_waited() -> None:
    watch, out = Watch(), io.StringIO()
    narrator = terminal.Narrator("churn", stream=out, patience=2.0, minutes=True, clock=watch)
    life = Life()
    for day in ("2024-01-08", "2024-01-15"):
        life.arrived(day).checked(day).decided(
            day, facts.Decision(train=False, trigger="t", reason="r")
        )
    for place, entry in enumerate(life.entries):
        watch.seconds = 10.0 if place < 3 else 10.5
        narrator.entry(entry)
    assert out.getvalue().splitlines() == ["  2024-01-08 00:00  · 7 d            2,000 rows"]
    narrator.close()
    assert len(out.getvalue().splitlines()) == 2


def test_a_fact_recalled_is_known_and_not_told() -> None:
    life, out = churn(), io.StringIO()
    narrator = terminal.Narrator("churn", stream=out)
    trained = next(
        i for i, entry in enumerate(life.entries) if isinstance(entry.fact, facts.Trained)
    )
    for entry in life.entries[:trained]:
        narrator.recall(entry)
    assert narrator.told == 0
    narrator.entry(life.entries[trained])
    assert "▲ v1 first" in out.getvalue()


def test_facts_go_to_stdout_as_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    life = churn()
    narrator = terminal.Narrator("churn", as_json=True)
    for entry in life.entries:
        narrator.entry(entry)
    narrator.close()
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["seq"] for line in lines] == [entry.seq for entry in life.entries]
    assert lines[0]["kind"] == "Arrived"
    assert "v1 promoted" in err


def test_a_long_text_ends_in_an_ellipsis_and_keeps_the_cost() -> None:
    line = Line(START, "▲", "v12 schedule", "x" * 90, cost="2 m 31 s")
    shown = terminal.laid_out(line)
    assert len(shown) == terminal.WIDTH
    assert shown.endswith("…  2 m 31 s")


# Progress -------------------------------------------------------------------------------


def test_where_there_is_no_terminal_a_line_comes_every_half_minute() -> None:
    watch, out = Watch(), io.StringIO()
    narrator = terminal.Narrator("churn", stream=out, clock=watch)
    for seconds, rows in ((0, 0), (10, 1_000), (31, 3_100), (40, 4_000), (62, 6_200)):
        watch.seconds = seconds
        narrator.progress(Step("churn", rows))  # type: ignore[arg-type]
    narrator.close()
    assert out.getvalue().splitlines() == [
        "  churn: 31 %  3,100 rows  100 rows/s  1:09 left",
        "  churn: 62 %  6,200 rows  100 rows/s  0:38 left",
    ]


def test_on_a_terminal_a_bar_is_drawn_and_erased() -> None:
    watch, out = Watch(), Screen()
    narrator = terminal.Narrator("churn", stream=out, clock=watch, policies=4)
    narrator.progress(Step("churn", 0))  # type: ignore[arg-type]
    watch.seconds = 2.0
    narrator.progress(Step("churn", 5_000))  # type: ignore[arg-type]
    for entry in churn().entries:
        narrator.entry(entry)
    narrator.progress(Step("never", 2_500))  # type: ignore[arg-type]
    narrator.close()
    shown = out.getvalue()
    assert "v1 promoted" in shown
    assert "2/4 never" in shown
    assert shown.endswith("\x1b[2K"), "the bar is erased at the end"


# Colour and encoding --------------------------------------------------------------------


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[31m" in terminal.paint("no", "bad", Screen())
    assert terminal.paint("no", "bad", io.StringIO()) == "no"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.paint("no", "bad", Screen()) == "no"


def test_every_event_has_a_shape_and_a_word_beside_its_colour() -> None:
    for line in narrated(churn()).splitlines():
        _, mark, what = line.split(maxsplit=2)
        assert not mark.isalnum()
        assert what


def test_a_stream_that_knows_no_such_marks_gets_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
    terminal.say("● v1 promoted · 5 → 6 …")
    assert raw.getvalue() == b"* v1 promoted - 5 > 6 ~\n"


# Words, data and errors -----------------------------------------------------------------


def test_data_goes_to_stdout_and_words_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.data({"at": START, "rows": 3})
    terminal.show("a table")
    terminal.say("a word")
    out, err = capsys.readouterr()
    assert out == '{"at":"2024-01-01T00:00:00Z","rows":3}\na table\n'
    assert err == "a word\n"


def test_an_error_says_what_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.error(ConfigError("expected a duration, got '14 days'", hint='write "14d"'))
    terminal.error(SchemaMismatch("column `age` is missing"))
    _, err = capsys.readouterr()
    assert err == (
        "ConfigError: expected a duration, got '14 days'\n\nhint: write \"14d\"\n"
        "SchemaMismatch: column `age` is missing\n"
    )


# What comes from outside ------------------------------------------------------------------

HOSTILE = "over\n2026-01-01  promoted\x1b[2J\x9b\u202e\r"


def test_a_fact_from_outside_is_one_line_and_moves_no_cursor() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for fact in (
        facts.Signalled(event=HOSTILE, data={HOSTILE: HOSTILE}),
        facts.Paused(reason=HOSTILE, by=HOSTILE),
    ):
        line = Story().line(facts.Entry(seq=1, at=now, pipeline="churn", fact=fact))
        shown = laid_out(line, 1_000)
        assert shown.isprintable()
        assert str(line).isprintable()
        assert "over\\n2026-01-01  promoted\\x1b[2J\\x9b\\u202e\\r" in shown


def test_words_and_errors_keep_their_lines_and_nothing_else_that_controls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal.say(HOSTILE)
    terminal.show(HOSTILE)
    terminal.error(KeepfitError(HOSTILE, hint=HOSTILE))
    told = capsys.readouterr()
    assert set(told.out + told.err).isdisjoint("\x1b\x9b\u202e\r")
    assert told.out == "over\n2026-01-01  promoted\\x1b[2J\\x9b\\u202e\\r\n"
