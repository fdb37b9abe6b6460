"""Which recipes run: by what is new, by what they reached side by side, by how they failed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from msgspec.structs import replace
from sklearn.linear_model import LogisticRegression

from keepfit import Challenger, Ledger, gates, selection, triggers, waiting, winner
from keepfit.beside import ENOUGH, Beside, standard_errors
from keepfit.challenger import default
from keepfit.clock import SimulatedClock
from keepfit.costs import Forecast
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Compared, Cost, Decision, Entry, Judged, Scored, Snapshot, Verdict
from keepfit.learners import resolve
from keepfit.loop import Loop
from keepfit.plan import Why
from keepfit.registry import Recipe, Side, State, Version, serving
from keepfit.standing import GLANCE, IDLES, NEW, PAYS, SOON, SPAN, Standings
from tests.worlds import DAY, START, pipeline, stream

BOOSTED = LGBMClassifier(n_estimators=10, num_leaves=7, verbosity=-1)
RECIPES = default(resolve(BOOSTED))
MIDDLE, SHORT, CHANGE, BRIEF, WHOLE, UPDATE = (one.name for one in RECIPES)


def version(name: str, recipe: str, to: int, *, turn: int = 1, state: str = "retired") -> Version:
    """Return a version trained on rows up to a day."""
    at = START + to * DAY - timedelta(hours=1)
    return Version(
        name=name,
        turn=turn,
        challenger=recipe,
        snapshot=Snapshot(
            batch=to, as_of=at, selection="", rows=100, digest="", from_=START, to=at
        ),
        start="scratch",
        update="all",
        seed=0,
        key="",
        started_at=at,
        ready_at=at,
        state=state,
        promoted_at=at if state == "retired" else None,
    )


def rows(first: int, last: int) -> pl.DataFrame:
    """Return ten rows a day."""
    times = [START + (first + i / 10) * DAY for i in range(10 * (last - first))]
    labels = [i % 2 for i in range(len(times))]
    return pl.DataFrame(
        {"_time": pl.Series(times, dtype=pl.Datetime("us", "UTC")), "_label": labels}
    )


def chosen(day: int) -> dict[str, pl.DataFrame]:
    """Return what each recipe would train on, on a day."""
    lengths = {MIDDLE: 20, SHORT: 5, CHANGE: 2, BRIEF: 1, WHOLE: day, UPDATE: 1}
    return {name: rows(max(0, day - length), day) for name, length in lengths.items()}


def standings(state: State, **parts: Any) -> Standings:
    return Standings(state, RECIPES, **parts)


def served(*versions: Version, batch: int = 50) -> State:
    found = {one.name: one for one in versions}
    recipes: dict[str, Recipe] = {}
    for one in versions:
        kept = recipes.setdefault(one.challenger, Recipe())
        kept.ran(one.snapshot.batch)
        kept.last = one.name
        kept.failures = kept.failures + 1 if one.state == "failed" else 0
    return State(
        champion=versions[-1].name, versions=found, batch=batch, turn=len(found), recipes=recipes
    )


def often_tried(state: State) -> State:
    """Let all windows but the leader have been tried often enough beside it, long ago."""
    state.recipes[MIDDLE].tried = [*range(20, 40)]
    for i, (name, tries) in enumerate({SHORT: 20, BRIEF: 20, WHOLE: 4}.items()):
        state.versions[f"v{90 + i}"] = version(f"v{90 + i}", name, 20)
        state.recipes[name] = Recipe(last=f"v{90 + i}", tried=[*range(40 - tries, 40)])
    return state


# Who leads ------------------------------------------------------------------------------


def side(middle: float, short: float, noise: np.random.Generator) -> Side:
    return Side(100, {MIDDLE: middle + 0.01 * noise.normal(), SHORT: short + 0.01 * noise.normal()})


def test_the_first_named_leads_until_another_is_shown_to_do_better() -> None:
    noise = np.random.default_rng(0)
    state = served(version("v1", MIDDLE, 40))
    leader = standings(state).leader()
    assert leader is not None
    assert leader.name == MIDDLE
    state.compared = [side(0.80, 0.84, noise) for _ in range(4)]
    assert standings(state).leader() is leader, "four batches are too few"
    state.compared += [side(0.80, 0.84, noise) for _ in range(10)]
    assert standings(state).leader().name == SHORT  # type: ignore[union-attr]
    lower = standings(state, greater_is_better=False)
    assert lower.leader().name == MIDDLE, "of a loss less is better"  # type: ignore[union-attr]


def test_recipes_that_are_alike_change_places_seldom() -> None:
    noise = np.random.default_rng(1)
    changed = 0
    for _ in range(300):
        state = served(version("v1", MIDDLE, 40))
        state.compared = [side(0.8, 0.8, noise) for _ in range(20)]
        changed += standings(state).leader().name == SHORT  # type: ignore[union-attr]
    # Half a standard error is passed by chance in 31 %; three deviations above are 39 %.
    assert 0.1 * 300 <= changed <= 0.39 * 300


def test_a_window_that_sees_less_is_asked_for_more() -> None:
    short, whole = version("v2", SHORT, 40), version("v3", WHOLE, 40)
    short.snapshot, whole.snapshot = (
        replace(one.snapshot, rows=rows) for one, rows in ((short, 50), (whole, 400))
    )
    state = served(short, whole, version("v1", MIDDLE, 40))
    # Better by 0.01 on the mean of eight, whose standard error is 0.01 / sqrt(7) * 1.8: 1.5 of them.
    steps = [0.01 + 0.018 * (-1) ** i for i in range(8)]
    for name, found in ((SHORT, MIDDLE), (WHOLE, WHOLE)):
        state.compared = [Side(100, {MIDDLE: 0.8, name: 0.8 + step}) for step in steps]
        assert standings(state).leader().name == found  # type: ignore[union-attr]
    state.compared = [Side(100, {MIDDLE: 0.8, SHORT: 0.82 + step}) for step in steps]
    assert standings(state).leader().name == SHORT, "shown by more"  # type: ignore[union-attr]


def test_a_leader_that_fails_hands_over_while_it_rests() -> None:
    state = served(version("v1", MIDDLE, 40), version("v2", MIDDLE, 50, state="failed"))
    assert standings(state).leader().name == SHORT  # type: ignore[union-attr]
    state.batch = 51
    assert standings(state).leader().name == MIDDLE  # type: ignore[union-attr]


@given(
    gains=st.lists(st.floats(-1, 1), min_size=2, max_size=40),
    scale=st.floats(0.1, 10),
    n=st.integers(1, 1_000),
)
def test_standard_errors_know_no_scale_and_turn_with_the_sign(
    gains: list[float], scale: float, n: int
) -> None:
    pairs = [Side(n, {}) for _ in gains]
    found = standard_errors(gains, pairs)
    assert standard_errors([-gain for gain in gains], pairs) == pytest.approx(-found)
    if math.isfinite(found) and np.ptp(gains) > 1e-6:
        assert standard_errors([scale * gain for gain in gains], pairs) == pytest.approx(found)


def test_what_never_differs_says_nothing_and_what_always_does_says_all() -> None:
    pairs = [Side(10, {}) for _ in range(6)]
    assert standard_errors([0.0] * 6, pairs) == 0.0
    assert standard_errors([0.25] * 6, pairs) == math.inf


# What runs ------------------------------------------------------------------------------


def running(state: State, day: int, why: Why = Why.STEP, *, brief: bool = False) -> set[str]:
    """Return the recipes that run; that of one step, which joins the others, where it is asked for."""
    state.batch = day
    held = standings(state).held(chosen(day), why)
    return {name for name, said in held.items() if not said and (brief or name != BRIEF)}


def test_the_champion_is_updated_until_a_quarter_of_the_leaders_rows_is_new() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    new_days = NEW * 20
    for day in range(41, 50):
        found = running(state, day)
        assert UPDATE in found, "beside the leader, to see what its training gives"
        assert (MIDDLE in found) == (day - 40 >= new_days)


def test_who_did_better_than_what_serves_is_not_waited_for() -> None:
    noise = np.random.default_rng(3)
    state = served(version("v1", MIDDLE, 47), version("v2", WHOLE, 47))
    state.versions["v2"].judged = Judged(version="v2", answer=Answer.PROMOTE, verdicts=())
    for better, leader in ((-0.1, WHOLE), (0.1, MIDDLE)):
        state.compared = [
            Side(100, {MIDDLE: 0.8 + better + 0.01 * noise.normal(), WHOLE: 0.8}) for _ in range(9)
        ]
        assert standings(state).leader().name == leader  # type: ignore[union-attr]
        # Three of its twenty days are new, where a quarter is asked for.
        assert (MIDDLE in running(state, 50)) == (leader == MIDDLE)
    # An update of what serves does not make it another window; a training of the leader does.
    state.versions["v3"] = replace_version(state.versions["v2"], "v3", UPDATE, "v2")
    state.champion = "v3"
    assert MIDDLE in running(state, 50)
    state.versions["v4"], state.champion = version("v4", MIDDLE, 50), "v4"
    state.recipes[MIDDLE].last = "v4"
    assert MIDDLE not in running(state, 52)


def test_the_others_are_tried_in_a_few_of_the_leaders_trainings() -> None:
    tried: dict[str, list[int]] = {SHORT: [], WHOLE: []}
    state = served(version("v1", MIDDLE, 10))
    for count in range(2, 36):
        # All rows are nearly those of the window, until there are three times as many.
        found = running(state, 60 if count > 10 else 24)
        assert found >= {MIDDLE, UPDATE}
        for name in found - {UPDATE}:
            state.recipes.setdefault(name, Recipe(last="v1")).ran(100 + count)
            tried.get(name, []).append(count)
    # A try on a quarter of the leader's rows counts a quarter, one on three times as many 1.7.
    short = [*range(2, 22), *range(32, 36)]
    assert tried == {SHORT: short, WHOLE: [11, 12, 13, 32]}


def test_where_more_rows_do_better_one_of_more_is_tried_whenever_its_rows_have_doubled() -> None:
    state = served(*[version(f"v{i}", MIDDLE, 40 + i, turn=i) for i in range(8)])
    state.recipes[MIDDLE].tried, state.recipes[WHOLE] = [*range(20, 40)], Recipe(last="v30")
    state.versions["v30"] = version("v30", WHOLE, 20)
    for rows_before, short, found in (
        (100, 0.7, True),
        (300, 0.7, False),
        (100, 0.8, False),
        (100, None, False),
    ):
        learnt = replace(state.versions["v30"].snapshot, rows=rows_before)
        state.versions["v30"].snapshot = learnt
        values = {MIDDLE: 0.8} | ({} if short is None else {SHORT: short})
        # Updates do as well as its trainings, for which the leader would wait longer by itself.
        state.compared = [Side(100, values, {MIDDLE: 0.8}) for _ in range(ENOUGH)]
        assert not running(state, 51) & {MIDDLE, WHOLE}, "too few rows are new to the leader"
        assert (running(state, 52) >= {MIDDLE, WHOLE}) is found, (rows_before, short)
        assert (MIDDLE in running(state, 52)) is found
    # Not for one that was shown to do worse, as it may still learn what was before.
    state.versions["v30"].snapshot = replace(state.versions["v30"].snapshot, rows=100)
    values = {MIDDLE: 0.8, SHORT: 0.7, WHOLE: 0.6}
    state.compared = [Side(100, values, {MIDDLE: 0.8}) for _ in range(ENOUGH)]
    assert not running(state, 52) & {MIDDLE, WHOLE}


def test_what_never_served_takes_as_many_rows_as_what_did_and_some_in_advance() -> None:
    led = [version(f"v{i}", MIDDLE, 20 + i) for i in range(2)]
    for many, tried in ((4, True), (5, False)):
        looks = [version(f"v{10 + i}", WHOLE, 10, state="refused") for i in range(many)]
        state = served(*looks, *led)
        state.recipes[MIDDLE].tried = [*range(18, 22)]
        state.recipes[WHOLE].tried = []
        assert (WHOLE in running(state, 40)) is tried
        held = standings(state).held(chosen(40), Why.STEP)
        assert bool(held[WHOLE]) is not tried
        assert WHOLE in running(state, 40, Why.ASKED), "a person asks for it, and an alarm for all"
        assert WHOLE in running(state, 40, Why.ALARM)
        assert MIDDLE in running(state, 40), "who leads has no such limit"
    # What won its gate, and served with its holdout learnt too, served.
    last = replace(version("v30", WHOLE, 10), final_of=looks[0].name)
    state.versions["v30"] = last
    assert WHOLE in running(state, 40)
    # After a fall all are looked at, whatever it costs.
    del state.versions["v30"]
    assert WHOLE not in running(state, 40)
    assert WHOLE in running(fallen(state), 41)


def test_what_was_trained_because_of_a_change_leaves_others_their_tries() -> None:
    # Of all windows that a fall had trained the one of five steps came to serve.
    state = fallen(served(version("v1", MIDDLE, 30), version("v2", SHORT, 41)))
    state.level.below, state.batch = 0, 50
    fell = state.level.batch
    for i, name in enumerate((MIDDLE, WHOLE)):
        one = version(f"v{10 + i}", name, 41, state="refused")
        one.snapshot = replace(one.snapshot, batch=fell, rows=5_000)
        state.versions[one.name] = one
    led = state.versions["v2"]
    assert not waiting.spent(state, led, fell=fell)
    assert waiting.spent(state, led), "but for the change they would be too many"
    later = version("v20", WHOLE, 45, state="refused")
    later.snapshot = replace(later.snapshot, rows=5_000)
    state.versions["v20"] = later
    assert waiting.spent(state, led, fell=fell), "what is tried after it counts"


def test_who_led_is_tried_beside_another_leader_as_one_that_never_did() -> None:
    state = served(version("v1", WHOLE, 40), version("v2", MIDDLE, 40))
    state.recipes[WHOLE].tried = [*range(11, 41)]
    state.recipes[MIDDLE].tried = [*range(40, 48)]
    assert WHOLE in running(state, 60), "trained 30 times, and once beside it"
    state.recipes[MIDDLE].tried = [*range(36, 44)]
    assert WHOLE not in running(state, 60), "five times beside it"


def test_what_was_tried_long_ago_is_as_good_as_not_tried() -> None:
    state = served(version("v1", MIDDLE, 40))
    for batch in range(200):
        state.recipes[MIDDLE].ran(batch)
    state.recipes[WHOLE] = Recipe(last="v1", tried=[*range(100, 120)])
    assert WHOLE in running(state, 300)
    state.recipes[WHOLE].tried = [*range(180, 200)]
    assert WHOLE not in running(state, 300)


def since(middle: float, kept: float, count: int, noise: np.random.Generator) -> list[Side]:
    """Return what a training and an update of the champion before it reached, on some batches."""
    drawn = 0.01 * noise.normal(size=(count, 2))
    return [Side(100, {MIDDLE: middle + a}, {MIDDLE: kept + b}) for a, b in drawn]


def test_what_plainly_paid_before_a_change_is_not_waited_for_after_it() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    state.level.batch = 41
    for kept, share in ((0.7, SOON * NEW), (0.788, NEW), (0.9, NEW)):
        state.compared = since(0.8, kept, 16, np.random.default_rng(4))
        first = next(day for day in range(41, 80) if MIDDLE in running(state, day))
        assert first - 40 == share * 20
    now = [replace(one, batch=41) for one in since(0.8, 0.9, 16, np.random.default_rng(4))]
    state.compared = since(0.8, 0.7, 16, np.random.default_rng(4)) + now
    assert MIDDLE not in running(state, 45), "what was reached since counts alone, once it is known"


@pytest.mark.parametrize(
    ("kept", "share"),
    [(0.7, SOON * NEW), (0.788, PAYS * NEW), (0.8, IDLES * NEW), (0.9, IDLES * NEW)],
    ids=str,
)
def test_the_leader_waits_for_what_its_trainings_gave_beside_updates(
    kept: float, share: float
) -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    state.compared = since(0.8, kept, ENOUGH - 1, np.random.default_rng(3))
    assert MIDDLE in running(state, 45), "too few batches to tell"
    state.compared += since(0.8, kept, 12, np.random.default_rng(4))
    first = next(day for day in range(41, 80) if MIDDLE in running(state, day))
    assert first - 40 == share * 20
    lower = [
        Side(one.n, {MIDDLE: -one.values[MIDDLE]}, {MIDDLE: -one.kept[MIDDLE]})
        for one in state.compared
    ]
    state.compared, state.batch = lower, first - 1
    held = standings(state, greater_is_better=False).held(chosen(first - 1), Why.STEP)
    assert f"{share:.0%} asked for" in held[MIDDLE], "of a loss less is better"


@pytest.mark.parametrize(("worse", "share"), [(0.0, IDLES * NEW), (0.1, NEW)])
def test_while_batches_are_answered_worse_a_leader_waits_no_longer_than_usual(
    worse: float, share: float
) -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    state.compared = since(0.8, 0.9, 16, np.random.default_rng(4))
    usual = [0.75, 0.85] * 6
    for fell in (4, 1):  # of one batch alone nothing is said
        values = [*usual, *[one - worse for one in usual[:fell]]]
        state.realised = [(24 + i, value) for i, value in enumerate(values)]
        first = next(day for day in range(41, 80) if MIDDLE in running(state, day))
        assert first - 40 == (share if fell == 4 else IDLES * NEW) * 20
        batch = Scored(batch=39, version="v2", metric="accuracy", value=0.8, n=250)
        assert not waiting.worse(replace(state, last_scored=batch), 1.0), "rows enough tell"
        losses = State(realised=[(batch, -value) for batch, value in state.realised])
        assert waiting.worse(losses, -1.0) == waiting.worse(state, 1.0)


def test_a_training_that_learnt_hardly_anything_new_does_not_tell_whether_trainings_pay() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    known = since(0.8, 0.9, 12, np.random.default_rng(4))
    for new, share in ((0.07, NEW), (0.2, IDLES * NEW)):
        state.compared = [replace(one, new={MIDDLE: new}) for one in known]
        first = next(day for day in range(41, 80) if MIDDLE in running(state, day))
        assert first - 40 == share * 20


def test_how_much_was_new_to_a_recipe_is_known_beside_the_last_one_from_scratch() -> None:
    state = served(version("v1", WHOLE, 30), version("v4", MIDDLE, 40), version("v5", BRIEF, 40))
    state.versions["v5"].snapshot = replace(
        state.versions["v5"].snapshot, from_=START + 39 * DAY, to=START + 40 * DAY
    )
    for name, parent in (("v2", "v1"), ("v3", "v2")):
        state.versions[name] = version(name, UPDATE, 39)
        state.versions[name].start, state.versions[name].parent = "champion", parent
    state.champion, state.followed = "v2", ["v3", "v4", "v5"]
    values = {"v2": 0.7, "v3": 0.71, "v4": 0.8, "v5": 0.75}
    reached = Compared(batch=42, metric="accuracy", n=50, values=values)
    state.fold([Entry(seq=1, at=START, pipeline="churn", fact=reached)])
    found = state.compared[-1]
    assert found.values == {UPDATE: 0.7, MIDDLE: 0.8, BRIEF: 0.75}
    assert found.kept == dict.fromkeys((MIDDLE, BRIEF), 0.71)
    assert found.ages == dict.fromkeys((MIDDLE, BRIEF), 2)
    assert found.new == pytest.approx({MIDDLE: 0.25, BRIEF: 1.0}, rel=0.05)


def compared(state: State, values: dict[str, float], batch: int) -> Side:
    reached = Compared(batch=batch, metric="accuracy", n=50, values=values)
    state.fold([Entry(seq=1, at=START, pipeline="churn", fact=reached)])
    return state.compared[-1]


def test_what_served_takes_no_place_of_a_followed_version_of_its_recipe() -> None:
    state = served(*(version(f"v{i}", name, 40) for i, name in ((2, MIDDLE), (3, SHORT))))
    state.versions["v1"] = version("v1", MIDDLE, 30)
    state.champion, state.followed = "v1", ["v2", "v3"]
    found = compared(state, {"v2": 0.8, "v3": 0.7, "v1": 0.5}, 42)
    assert found.values == {MIDDLE: 0.8, SHORT: 0.7}, "labels of its reign came late"
    assert found.ages == dict.fromkeys((MIDDLE, SHORT), 2)
    state.versions["v4"] = version("v4", WHOLE, 30)
    found = compared(state, {"v2": 0.8, "v4": 0.5}, 42)
    assert found.ages == {MIDDLE: 2, WHOLE: 12}, "not asked at the same age"


def test_of_two_followed_versions_of_a_recipe_the_newest_counts() -> None:
    state = served(version("v1", BRIEF, 40), version("v2", UPDATE, 40))
    state.versions["v2"].start, state.versions["v2"].parent = "champion", "v1"
    state.versions["v3"] = version("v3", BRIEF, 41, turn=2)
    state.followed = ["v1", "v2", "v3"]
    found = compared(state, {"v1": 0.5, "v2": 0.6, "v3": 0.9}, 42)
    assert (found.values, found.ages) == ({BRIEF: 0.9}, {BRIEF: 1})
    assert (found.kept, found.new) == ({}, {}), "there was no update beside it"


def built(name: str, recipe: str, to: int, turn: int) -> Version:
    """Return a version that may be followed: an update where that is its recipe, of one step where it is."""
    found = version(name, recipe, to, turn=turn)
    found.artifact = name
    if recipe == UPDATE:
        found.start = "champion"
    if recipe == BRIEF:
        found.snapshot = replace(found.snapshot, selection=str(selection.Sliding(1)))
    return found


def test_windows_are_followed_on_while_the_leader_is_trained_again_by_itself() -> None:
    tried = [built("v1", MIDDLE, 40, 1), built("v2", WHOLE, 40, 1), built("v3", UPDATE, 40, 1)]
    alone = [built("v4", MIDDLE, 42, 2), built("v5", UPDATE, 42, 2)]
    once_more = [built("v6", MIDDLE, 44, 3), built("v7", UPDATE, 44, 3)]
    step = [built("v8", BRIEF, 45, 4), built("v9", UPDATE, 45, 4)]
    others = [built("v10", MIDDLE, 46, 5), built("v11", SHORT, 46, 5)]
    state = State()
    state.versions = {
        one.name: one
        for one in (*tried, *alone, *once_more, *step, *others, built("v12", UPDATE, 47, 6))
    }
    found = []
    for turn in range(1, 7):
        serving.follow(state, turn)
        found.append(" ".join(state.followed))
    assert found == [
        "v1 v2 v3",
        "v1 v2 v4 v5",
        "v1 v2 v6 v7",
        "v1 v2 v6 v7 v8 v9",
        "v10 v11",
        "v10 v11",
    ]


def test_windows_of_an_earlier_turn_are_beside_each_other_alone() -> None:
    state = served(*(built(f"v{i}", name, 40, 1) for i, name in ((1, MIDDLE), (2, WHOLE))))
    for one in (built("v3", MIDDLE, 42, 2), built("v4", UPDATE, 42, 2)):
        state.versions[one.name] = one
    state.champion, state.followed = "v3", ["v1", "v2", "v3", "v4"]
    newest = compared(state, {"v1": 0.5, "v2": 0.6, "v3": 0.8, "v4": 0.7}, 43)
    assert (newest.values, newest.ages) == ({MIDDLE: 0.8}, {MIDDLE: 1})
    assert newest.kept == {MIDDLE: 0.7}
    earlier = state.compared[-2]
    assert (earlier.values, earlier.kept) == ({MIDDLE: 0.5, WHOLE: 0.6}, {})
    assert earlier.ages == {MIDDLE: 3, WHOLE: 3}
    for batch in range(44, 44 + ENOUGH):
        compared(state, {"v1": 0.5, "v2": 0.6, "v3": 0.8, "v4": 0.7}, batch)
    assert (standings(state).beside.gain(WHOLE, MIDDLE) or 0.0) > 100


def test_a_map_of_scores_learnt_no_rows() -> None:
    state = served(version("v1", WHOLE, 20), version("v4", MIDDLE, 40))
    for name, parent, update in (("v2", "v1", "calibration"), ("v3", "v2", "all")):
        state.versions[name] = version(name, UPDATE, 39)
        state.versions[name].start, state.versions[name].parent = "champion", parent
        state.versions[name].update = update
    state.followed = ["v3", "v4"]
    assert compared(state, {"v3": 0.7, "v4": 0.8}, 42).new == pytest.approx({MIDDLE: 0.5}, rel=0.05)


def test_the_leader_is_preferred_and_beside_it_what_did_no_worse() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    assert standings(state).preferred() == {MIDDLE}
    for kept, found in ((0.7, {MIDDLE}), (0.8, {MIDDLE, UPDATE}), (0.9, {MIDDLE, UPDATE})):
        state.compared = since(0.8, kept, 16, np.random.default_rng(4))
        assert standings(state).preferred() == found
    rested = served(*[version(f"v{i}", MIDDLE, 50, state="failed") for i in range(3)])
    assert standings(rested).preferred() == {SHORT}


def test_an_update_waits_for_one_more_batch_where_new_rows_are_few_and_well_answered() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    usual = [0.80, 0.82, 0.79, 0.81, 0.80, 0.82]
    state.realised = [(35 + i, value) for i, value in enumerate(usual)]
    assert running(state, 41) == set()
    assert "are few beside" in standings(state).held(chosen(41), Why.STEP)[UPDATE]
    assert running(state, 42) == {UPDATE}, "one batch is waited for, and no more"
    assert running(state, 41, Why.ASKED) >= {UPDATE}
    state.realised[-1] = (40, 0.78)
    assert running(state, 41) == {UPDATE}, "answered worse than lately"
    state.realised[-1] = (40, 0.82)
    for before, found in ((0.80, set()), (0.72, {UPDATE}), (None, set())):
        said = Judged(version="v2", answer=Answer.PROMOTE, verdicts=(), champion="v1")
        state.versions["v2"].judged = replace(said, value=0.81, champion_value=before)
        assert running(state, 41) == found, "the last one gained much"
    for low, needs, found in (
        (0.001, -0.01, {UPDATE}),
        (0.001, None, {UPDATE}),
        (-0.001, -0.01, set()),
        (None, None, set()),
        (0.75, 0.7, set()),
    ):
        verdict = Verdict(gate="", answer=Answer.PROMOTE, reason="", low=low, needs=needs)
        told = replace(said, verdicts=(verdict,), value=0.81, champion_value=0.80)
        state.versions["v2"].judged = told
        assert running(state, 41) == found, "little, and it was shown that it did gain"
    state.compared = [side(0.8, 0.9, np.random.default_rng(8)) for _ in range(8)]
    assert standings(state).leader().name == SHORT  # type: ignore[union-attr]
    state.versions["v3"], state.champion = version("v3", SHORT, 40), "v3"
    state.recipes[SHORT] = Recipe(trainings=1, last="v3")
    assert running(state, 41) == {UPDATE}, "a short window forgets fast"


def fallen(state: State, usual: float = 0.8, now: float = 0.4, batches: int = 1) -> State:
    """Let what serves reach a level, and then fall."""
    steady = [usual + 0.01 * (i % 2) for i in range(12)]
    for i, value in enumerate([*steady, *[now] * batches]):
        state.level.take(value, 20 + i, START + (20 + i) * DAY, learnt_to=START)
    return state


def test_when_what_serves_falls_each_window_is_trained_that_has_new_rows() -> None:
    state = served(version("v1", SHORT, 44), version("v2", WHOLE, 44), version("v3", MIDDLE, 44))
    for name in (MIDDLE, SHORT, WHOLE):
        state.recipes[name].trainings = 9
    assert running(state, 45) == {UPDATE}
    fallen(state)
    assert running(state, 45) == {SHORT, CHANGE, UPDATE}, "a fifth of its rows, and all, are new"
    assert "asked for after a change" in standings(state).held(chosen(45), Why.STEP)[MIDDLE]
    assert running(state, 46) == {SHORT, CHANGE, MIDDLE, UPDATE}
    assert running(state, 49) == {SHORT, CHANGE, MIDDLE, WHOLE, UPDATE}
    assert running(state, 45, Why.ASKED) == {MIDDLE, SHORT, CHANGE, WHOLE, UPDATE}
    assert standings(state).preferred() == set(), "the holdout decides"
    assert (
        "20 rows, 100 asked for" in standings(state, enough=200).held(chosen(45), Why.STEP)[CHANGE]
    )


def test_what_recipes_reached_before_a_change_counts_no_more() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", SHORT, 40))
    noise = np.random.default_rng(9)
    state.compared = [side(0.9, 0.8, noise) for _ in range(12)]
    assert standings(state).leader().name == MIDDLE  # type: ignore[union-attr]
    fallen(state)
    assert standings(state).leader().name == SHORT, "who made what serves"  # type: ignore[union-attr]
    state.versions["v3"] = replace_version(state.versions["v2"], "v3", UPDATE, "v2")
    state.champion = "v3"
    assert standings(state).leader().name == SHORT, "and was updated since"  # type: ignore[union-attr]
    state.compared += [replace(side(0.9, 0.8, noise), batch=41 + i) for i in range(ENOUGH - 1)]
    assert standings(state).leader().name == SHORT  # type: ignore[union-attr]
    state.compared += [replace(side(0.9, 0.8, noise), batch=49)]
    assert standings(state).leader().name == MIDDLE, "until another does better"  # type: ignore[union-attr]


def test_who_made_what_serves_before_a_change_does_not_lead_for_it() -> None:
    state = fallen(served(version("v1", WHOLE, 30), version("v2", SHORT, 32)))
    state.versions["v2"].snapshot = replace(state.versions["v2"].snapshot, batch=40)
    assert state.level.since == START + 32 * DAY
    assert standings(state).leader().name == MIDDLE, "trained after it, on rows before"  # type: ignore[union-attr]


def test_who_leads_as_history_says_does_until_something_changes() -> None:
    state = served(version("v1", BRIEF, 30))
    state.outset = WHOLE
    assert standings(state).leader().name == WHOLE, "one step alone tells no more"  # type: ignore[union-attr]
    state.versions["v2"] = version("v2", SHORT, 40)
    state.champion = "v2"
    assert standings(state).leader().name == SHORT, "the holdout decided"  # type: ignore[union-attr]
    state.level.since = START + 60 * DAY
    assert standings(state).leader().name == MIDDLE, "all of it was before"  # type: ignore[union-attr]


def test_who_came_to_serve_by_its_gate_leads_until_another_does_better() -> None:
    noise = np.random.default_rng(12)
    state = served(version("v1", MIDDLE, 30), version("v2", WHOLE, 40))
    assert standings(state).leader().name == MIDDLE, "no gate saw it"  # type: ignore[union-attr]
    state.versions["v2"].judged = Judged(version="v2", answer=Answer.PROMOTE, verdicts=())
    assert standings(state).leader().name == WHOLE  # type: ignore[union-attr]
    state.versions["v3"] = replace_version(state.versions["v2"], "v3", UPDATE, "v2")
    state.champion = "v3"
    assert standings(state).leader().name == WHOLE, "and was updated since"  # type: ignore[union-attr]
    # Its last fit is a training of its own, of which the gate knows nothing.
    last = replace(state.versions["v2"], name="v4", judged=None, final_of="v2")
    state.versions["v4"], state.champion = last, "v4"
    assert standings(state).leader().name == WHOLE  # type: ignore[union-attr]
    state.compared = [
        Side(100, {MIDDLE: 0.9 + 0.01 * noise.normal(), WHOLE: 0.8}) for _ in range(ENOUGH)
    ]
    assert standings(state).leader().name == MIDDLE, "until another does better"  # type: ignore[union-attr]


def test_until_a_leader_has_let_go_of_rows_from_before_a_change_the_holdout_decides() -> None:
    state = fallen(served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40)))
    state.level.take(0.8, 33, START + 33 * DAY, learnt_to=START + 33 * DAY)
    assert (state.level.below, state.level.since) == (0, START + 32 * DAY)
    state.batch = state.level.batch + SPAN - 1
    assert standings(state).preferred() == set(), "it learnt rows of before"
    state.batch += 1
    assert standings(state).preferred() == {MIDDLE}, "it has led long enough"
    state.batch -= 1
    snapshot = replace(state.versions["v2"].snapshot, from_=START + 32 * DAY)
    state.versions["v2"].snapshot = snapshot
    assert standings(state).preferred() == {MIDDLE}, "all its rows are of since then"


def judged(of: str, rows: int = 300) -> Entry:
    parts: dict[str, Any] = {"rows": rows, "value": 0.9, "champion": "v1", "verdicts": ()}
    said = Judged(version=of, answer=Answer.REFUSE, **parts)
    return Entry(seq=1, at=START, pipeline="churn", fact=said)


def test_what_windows_reach_on_the_holdout_is_of_the_newest_batch_that_was_scored() -> None:
    state = served(version("v1", MIDDLE, 40), version("v2", SHORT, 40), version("v3", WHOLE, 40))
    for one in state.versions.values():
        one.turn = 7
    state.last_scored = Scored(batch=38, version="v1", metric="accuracy", value=0.9, n=10)
    state.fold([judged("v2"), judged("v3")])
    assert state.compared == [
        Side(300, {SHORT: 0.9, WHOLE: 0.9}, batch=38, turn=7, ages={SHORT: -2, WHOLE: -2})
    ]


def replace_version(of: Version, name: str, recipe: str, parent: str) -> Version:
    """Return a champion updated."""
    return replace(
        of, name=name, challenger=recipe, start="champion", update="leaves", parent=parent
    )


def test_a_window_of_one_class_is_not_trained() -> None:
    state, found = fallen(served(version("v1", MIDDLE, 30))), chosen(45)
    found[CHANGE] = found[CHANGE].with_columns(_label=pl.lit(0))
    held = standings(state).held(found, Why.STEP)
    assert held[CHANGE] == "no two of its labels differ"
    assert held[SHORT] == held[MIDDLE] == ""


def test_leaves_wait_for_rows_of_more_than_one_class() -> None:
    state, found = served(version("v1", MIDDLE, 40)), chosen(41)
    assert standings(state).held(found, Why.STEP)[UPDATE] == ""
    found[UPDATE] = found[UPDATE].with_columns(_label=pl.lit(0))
    assert standings(state).held(found, Why.STEP)[UPDATE] == "no two of its labels differ"


def test_a_window_since_a_change_is_none_until_something_changed() -> None:
    state = served(version("v1", MIDDLE, 40))
    assert CHANGE not in {one.name for one in standings(state).runnable()}
    assert CHANGE in {one.name for one in standings(fallen(state)).runnable()}


@pytest.mark.parametrize(
    "others",
    [
        [],
        [Challenger(select=selection.Sliding(5), every=None)],
        [Challenger(select=selection.SinceLast(), start="champion", every=None)],
        [Challenger(select=selection.Expanding(at_most=100), every=None)],
        [Challenger(learner=BOOSTED, every=None)],
    ],
    ids=["alone", "a window", "an update", "fewer rows", "another learner"],
)
def test_it_stands_for_all_rows_where_no_other_recipe_does(others: list[Challenger]) -> None:
    own = Challenger(select=selection.SinceChange(), every=None)
    found = Standings(State(), [*others, own])
    assert own in found.runnable()
    assert own in found.windows


def test_what_would_tell_nothing_is_not_tried() -> None:
    state = served(version("v1", MIDDLE, 15))
    assert running(state, 24) == {MIDDLE, SHORT, UPDATE}
    assert "nearly those of" in standings(state).held(chosen(24), Why.STEP)[WHOLE]
    state.compared = [side(0.8, 0.7, np.random.default_rng(7)) for _ in range(8)]
    assert running(state, 60) == {MIDDLE, WHOLE, UPDATE}
    assert "did better, by" in standings(state).held(chosen(60), Why.STEP)[SHORT]
    tried, state.recipes[MIDDLE].tried = [], []
    for count in range(1, 200):
        if SHORT in running(state, 60):
            tried.append(count)
            state.recipes.setdefault(SHORT, Recipe(last="v1")).ran(100 + count)
        state.recipes[MIDDLE].ran(100 + count)
    assert tried == [4, 16, 64, 129, 194], "but not for good"
    state.recipes[MIDDLE].tried, state.recipes[SHORT].tried = [1], []
    assert SHORT in running(state, 60, Why.ALARM)
    assert SHORT in running(fallen(state), 60), "something has changed"


def test_another_learner_is_tried_on_the_same_rows() -> None:
    line = Challenger(learner=LogisticRegression(), every=None, name="line")
    twin = Challenger(every=None, name="twin")
    leader = Challenger(every=None, name="leader")
    state = served(version("v1", "leader", 15))
    state.batch = 24
    every = Standings(state, [leader, line, twin])
    held = every.held(dict.fromkeys(("leader", "line", "twin"), rows(0, 24)), Why.STEP)
    assert (held["leader"], held["line"]) == ("", "")
    assert "nearly those of leader" in held["twin"]


def test_an_alarm_tries_all_of_them_and_a_schedule_the_leader_beside_the_update() -> None:
    state = often_tried(served(*[version(f"v{i}", MIDDLE, 40, turn=i) for i in range(8)]))
    assert running(state, 41, Why.ALARM) == {MIDDLE, SHORT, WHOLE, UPDATE}
    assert running(state, 41, Why.ASKED) == {MIDDLE, UPDATE}


def test_updates_stop_where_leaving_the_champion_alone_does_better() -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    noise = np.random.default_rng(2)
    values = [(0.8 + 0.01 * noise.normal(), 0.75) for _ in range(20)]
    state.compared = [Side(100, {MIDDLE: a, UPDATE: b}) for a, b in values]
    assert running(state, 41) == set()
    said = standings(state).held(chosen(41), Why.STEP)[UPDATE]
    assert "did better without it" in said
    assert running(state, 41, Why.ALARM) == {MIDDLE, SHORT, WHOLE}
    assert MIDDLE in running(state, 42), "the leader is trained the oftener for it"


def test_without_a_cheap_update_a_tenth_of_new_rows_is_enough() -> None:
    recipes = default(resolve(LogisticRegression()))
    assert all(one.start == "scratch" for one in recipes)
    state = often_tried(served(*[version(f"v{i}", MIDDLE, 40, turn=i) for i in range(8)], batch=42))
    found = {
        day: [
            n
            for n, said in Standings(state, recipes).held(chosen(day), Why.STEP).items()
            if not said
        ]
        for day in (41, 42)
    }
    assert found == {41: [], 42: [MIDDLE, BRIEF]}


def test_a_person_gets_a_training_even_where_every_recipe_rests() -> None:
    failed = [version(f"v{i}", one.name, 50, state="failed") for i, one in enumerate(RECIPES)]
    state = served(version("v9", MIDDLE, 10), *failed)
    state.champion = "v9"
    assert len(running(state, 50, Why.ASKED)) == 1
    assert running(state, 50, Why.STEP) == set()


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (Decision(train=True, trigger="EachStep()", reason=""), Why.STEP),
        (Decision(train=True, trigger='Every("28d")', reason=""), Why.ASKED),
        (Decision(train=True, trigger="hand", reason=""), Why.ASKED),
        (Decision(train=True, trigger="OnDecay()", reason=""), Why.ALARM),
    ],
    ids=["step", "schedule", "hand", "decay"],
)
def test_the_greatest_reason_counts(decision: Decision, why: Why) -> None:
    assert Why.of(decision) == why
    step = Decision(train=True, trigger="EachStep()", reason="")
    no = Decision(train=False, trigger="OnDrift()", reason="")
    joined = Decision(train=True, trigger="any", reason="", parts=(step, no, decision))
    assert Why.of(joined) == why


def test_steps_may_count_what_a_window_reaches() -> None:
    moment = selection.Sliding(3)
    with pytest.raises(ConfigError, match="above zero, got 0"):
        selection.Sliding(0)
    assert repr(moment) == "Sliding(3)"


# A whole life ---------------------------------------------------------------------------


def shifting(days: int, per_day: int, *, length: int | None, seed: int = 0) -> pl.DataFrame:
    """Return rows whose label turns another way every so many days, or never."""
    frame = stream(days, per_day, seed=seed)
    day = (frame["time"] - START).dt.total_days().to_numpy()
    rng = np.random.default_rng(seed)
    angle = (
        np.zeros(days) if length is None else np.repeat(rng.uniform(0, 6.3, days), length)[:days]
    )
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    label = np.cos(angle[day]) * x + np.sin(angle[day]) * y + 0.3 * rng.normal(size=len(x)) > 0
    return frame.with_columns(label=pl.Series(label.astype(np.int64)))


def lived(frame: pl.DataFrame, home: Path, learner: Any = BOOSTED) -> tuple[Any, list[Any]]:
    made = pipeline(frame, home, learner=learner, challengers=None, metric="accuracy", enough=50)
    told = made.backtest(since=START + 10 * DAY)
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        return told, [entry.fact for entry in ledger.facts("churn")]


def test_no_settings_are_as_good_as_always_and_follow_what_changes(tmp_path: Path) -> None:
    told, found = lived(shifting(80, 150, length=16), tmp_path)
    assert told["churn"].value > told["always"].value + 0.03
    compared = [fact for fact in found if fact.kind == "Compared"]
    assert compared
    assert {len(fact.values) for fact in compared} <= {*range(2, 10)}


def test_where_nothing_changes_little_is_trained_and_nothing_lost(tmp_path: Path) -> None:
    told, found = lived(shifting(80, 150, length=None), tmp_path)
    assert told["churn"].value > told["always"].value - 0.015
    whole = [f for f in found if f.kind == "TrainingStarted" and f.update == "all"]
    rows_trained = sum(fact.snapshot.rows for fact in whole)
    always = sum(150 * day for day in range(10, 80))
    assert rows_trained < 0.4 * always
    assert "not_run" in [f for f in found if f.kind == "Decided"][-1].decision.evidence


@pytest.mark.parametrize(("per_day", "last"), [(300, 4), (100, 10), (40, 16)])
def test_recipes_are_compared_on_a_few_batches_or_on_rows_that_tell(
    tmp_path: Path, per_day: int, last: int
) -> None:
    recipes = [Challenger(select=selection.Sliding(days)) for days in (5, 15)]
    made = pipeline(
        shifting(60, per_day, length=None),
        tmp_path,
        challengers=recipes,
        trigger=triggers.Every("20d"),
    )
    heard: list[Any] = []
    made.backtest(since=START + 20 * DAY, compare=False, listen=lambda one: heard.append(one.fact))
    began = {f.version: f.snapshot.batch for f in heard if f.kind == "TrainingStarted"}
    served = {f.version for f in heard if f.kind == "Promoted"}
    ages = {
        fact.batch - began[name]
        for fact in heard
        if fact.kind == "Compared"
        for name in fact.values.keys() - served
    }
    assert max(ages) == last


def test_batches_whose_labels_come_together_are_compared_on_no_more_rows(tmp_path: Path) -> None:
    made = pipeline(stream(20, 50), tmp_path)
    loop = Loop(made, made.memory(), SimulatedClock(START))
    loop.state.compared = [Side(400, {}, batch=41 + day) for day in range(2)]
    found = [Compared(batch=43, metric="accuracy", n=199, values={})]
    trained = version("v1", MIDDLE, 40)
    told = [loop.watcher._fresh(trained, batch, found) for batch in (45, 56, 57)]
    assert told == [True, True, False], "999 rows, 16 batches"
    found += [Compared(batch=44, metric="accuracy", n=1, values={})]
    assert [loop.watcher._fresh(trained, batch, found) for batch in (44, 45)] == [True, False]
    found.pop()
    loop.state.compared += loop.state.compared[-1:]
    assert loop.watcher._fresh(trained, 56, found), "the rows of two sides of a batch are the same"


def test_small_batches_tell_together_whether_trainings_pay() -> None:
    noise = np.random.default_rng(5)
    known = [*since(1.1, 0.8, 24, noise), *since(0.8, 0.9, 16, noise)]
    many = [replace(one, n=1_000) for one in known]
    found = [Beside(sides, 1.0).trained(MIDDLE) for sides in (known, many)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].gain > 0 > found[1].gain, "40 batches of 100 rows, and 16 of 1,000"
    few = Beside(known[-16:], 1.0).trained(MIDDLE)
    assert [one and one.telling for one in (*found, few)] == [True, True, False]


@pytest.mark.parametrize(("rows", "share"), [(100, PAYS), (1_000, IDLES)])
def test_what_few_rows_show_of_a_gain_is_not_taken_for_none(rows: int, share: float) -> None:
    state = served(version("v1", WHOLE, 30), version("v2", MIDDLE, 40))
    # Better by half a standard error: 0.002 in the mean of 16 steps of 0.016.
    steps = [0.002 + 0.016 * (-1) ** i for i in range(16)]
    state.compared = [Side(rows, {MIDDLE: 0.8 + step}, {MIDDLE: 0.8}) for step in steps]
    first = next(day for day in range(41, 80) if MIDDLE in running(state, day))
    assert first - 40 == share * NEW * 20
    state.compared = [Side(rows, {MIDDLE: 0.8 - step}, {MIDDLE: 0.8}) for step in steps]
    first = next(day for day in range(41, 80) if MIDDLE in running(state, day))
    assert first - 40 == IDLES * NEW * 20, "and what they show against it is"


def test_a_learner_without_a_cheap_update_lives_by_its_windows(tmp_path: Path) -> None:
    told, found = lived(shifting(60, 100, length=15), tmp_path, LogisticRegression())
    assert told["churn"].value > told["never"].value + 0.05
    assert all(f.start == "scratch" for f in found if f.kind == "TrainingStarted")
    no = [f.decision.reason for f in found if f.kind == "Decided" and not f.decision.train]
    assert any("no recipe is due" in reason for reason in no)


def test_a_winner_learns_its_holdout_and_serves_as_it_passed_where_it_cannot(
    tmp_path: Path,
) -> None:
    _, found = lived(shifting(40, 100, length=12), tmp_path)
    final = [f for f in found if f.kind == "TrainingStarted" and f.final_of]
    assert final
    by_name = {f.version: f for f in found if f.kind == "TrainingStarted"}
    for one in final:
        winner = by_name[one.final_of]
        assert one.parent == winner.version
        assert one.snapshot.from_ > winner.snapshot.to
    promoted = {f.version for f in found if f.kind == "Promoted"}
    # What learnt little is tried once more, and serves the second time.
    assert promoted >= {one.version for one in final} - {one.retry_of for one in final}


def test_a_final_update_needs_a_recipe_that_updates() -> None:
    with pytest.raises(ConfigError, match="recipe that updates the champion"):
        pipeline(stream(2, 10), Path("unused"), final_fit="update")
    with pytest.raises(ConfigError, match="'all' or 'update', or None, got 'most'"):
        pipeline(stream(2, 10), Path("unused"), final_fit="most")


def test_each_step_trains_once_a_step_and_with_labels_alone() -> None:
    from keepfit.protocols import Evidence

    at = datetime(2024, 3, 1, tzinfo=UTC)

    def asked(since: timedelta | None, labelled: int) -> bool:
        evidence = Evidence(
            now=at,
            watermark=at,
            first_at=START,
            trained_at=None if since is None else at - since,
            labelled=labelled,
            every=DAY,
        )
        return triggers.EachStep().decide(evidence).train

    assert asked(None, 10)
    assert asked(timedelta(hours=23), 10)
    assert not asked(timedelta(hours=3), 10)
    assert not asked(timedelta(hours=23), 0)


def test_a_recipe_of_its_own_may_run_when_its_evidence_says_so() -> None:
    made = Challenger(select=selection.Sliding(20), every=None)
    assert repr(made) == "Challenger(select=Sliding(20), start='scratch', update='all', every=None)"


# How long a training may take -----------------------------------------------------------


def test_what_a_training_takes_at_most_is_told_by_its_forecast_and_by_those_before_it() -> None:
    told = Forecast(seconds=3.0, low=1.0, high=9.0, trainings=4)
    first, second = version("v1", MIDDLE, 40), version("v2", MIDDLE, 50)
    state = served(first, second)
    assert state.longest(second) is None, "no forecast yet"
    second.forecast = replace(told, akin=True)
    assert state.longest(second) is None, "another recipe's cost says little"
    second.forecast = told
    assert state.longest(second) == 9.0
    first.artifact, first.cost = "a", Cost(cpu_seconds=1.0, wall_seconds=70.0)
    assert state.longest(second) == 70.0, "one that waits uses little CPU"


# Which is promoted ----------------------------------------------------------------------


def passed(name: str, low: float, high: float, **more: Any) -> Judged:
    gain = (low + high) / 2
    gate = more.pop("gate", gates.NoWorse()).name
    verdict = Verdict(gate=gate, answer=Answer.PROMOTE, reason="", low=low, high=high, value=gain)
    value = more.pop("value", 0.5 + gain)
    parts = {"champion": "v1", "rows": 500, "verdicts": (verdict,), "value": value} | more
    return Judged(version=name, answer=Answer.PROMOTE, **parts)


def promoted(*judged: Judged, judges: Any = None, **parts: Any) -> str:
    recipes = {"v2": SHORT, "v3": MIDDLE, "v4": WHOLE}
    state = served(version("v1", MIDDLE, 20), *(version(n, r, 40) for n, r in recipes.items()))
    judges = [gates.NoWorse()] if judges is None else judges
    return winner.best(standings(state, **parts), judged, dict.fromkeys(recipes, 0), judges).version


def test_the_leader_is_promoted_unless_another_is_shown_to_do_better() -> None:
    leading = passed("v3", -0.03, 0.04)
    assert promoted(passed("v2", 0.03, 0.20), leading) == "v3", "bounds that meet show nothing"
    assert promoted(passed("v2", 0.05, 0.20), leading) == "v2"
    assert promoted(passed("v2", 0.05, 0.20), leading, passed("v4", 0.06, 0.30)) == "v4"
    assert promoted(passed("v2", 0.05, 0.20, rows=600), leading) == "v3", "on other rows"
    for gate in (gates.AtLeast(0.1), gates.NoWorse(slice="kind")):
        by_it = passed("v2", 0.05, 0.2, gate=gate), passed("v3", -0.03, 0.04, gate=gate)
        assert promoted(*by_it, judges=[gate]) == "v3", "no gain over the champion on all rows"


def test_a_window_of_one_step_is_promoted_by_no_luck_on_a_holdout() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40), version("v3", WHOLE, 40))
    names, judges = dict.fromkeys(("v2", "v3"), 0), [gates.NoWorse()]
    better, worse = passed("v2", 0.02, 0.30), passed("v3", -0.03, 0.04)
    assert winner.best(standings(state), [better, worse], names, judges).version == "v3"
    shown = passed("v2", 0.06, 0.30)
    assert winner.best(standings(state), [shown, worse], names, judges).version == "v3"
    far = passed("v2", 0.17, 0.41)
    assert winner.best(standings(state), [far, worse], names, judges).version == "v2", (
        "no luck goes so far"
    )
    near = passed("v2", 0.15, 0.39)
    assert winner.best(standings(state), [near, worse], names, judges).version == "v3"
    assert winner.best(standings(state), [better], names, judges).version == "v2", (
        "none else passed"
    )
    fallen(state)
    assert winner.best(standings(state), [better, worse], names, judges).version == "v3"


def test_after_a_change_the_longest_is_promoted_of_windows_that_a_small_holdout_cannot_tell_apart() -> (
    None
):
    recipes = {"v2": SHORT, "v3": MIDDLE, "v4": WHOLE}
    made = [version(name, recipe, 40) for name, recipe in recipes.items()]
    for one, many in zip(made, (50, 200, 400), strict=True):
        one.snapshot = replace(one.snapshot, rows=many)
    state = fallen(served(version("v1", MIDDLE, 20), *made))
    assert not standings(state).preferred()

    def found(*values: float, rows: int = 16) -> str:
        # Bounds of 0.24 in width: values are alike within 0.03.
        judged = [
            passed(name, value - 0.62, value - 0.38, value=value, rows=rows)
            for name, value in zip(recipes, values, strict=True)
        ]
        return winner.best(
            standings(state), judged, dict.fromkeys(recipes, 0), [gates.NoWorse()]
        ).version

    assert found(0.60, 0.58, 0.50) == "v3"
    assert found(0.60, 0.58, 0.58) == "v4"
    assert found(0.60, 0.56, 0.50) == "v2"
    assert found(0.60, 0.58, 0.58, rows=winner.TELLING) == "v2", "so many rows tell"
    update = replace(version("v2", UPDATE, 40), start="champion", parent="v1")
    state.versions["v2"] = update
    assert found(0.60, 0.58, 0.58) == "v2", "an update has seen what the champion has"


def test_where_it_leads_and_updates_do_as_well_the_holdout_decides() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40), version("v3", UPDATE, 40))
    known = brief_sides(1, 0.2, 8)
    state.compared = [replace(one, kept={BRIEF: one.values[BRIEF] + 0.001}) for one in known]
    assert standings(state).preferred() == {BRIEF, UPDATE}
    names, judges = dict.fromkeys(("v2", "v3"), 0), [gates.NoWorse()]
    for value, found in ((0.9, "v2"), (0.7, "v3")):
        both = [passed("v2", 0.02, 0.30, value=value), passed("v3", -0.03, 0.20, value=0.8)]
        assert winner.best(standings(state), both, names, judges).version == found


def test_what_a_holdout_does_not_tell_apart_is_no_reason_for_an_update() -> None:
    update = replace(version("v3", UPDATE, 40), start="champion", parent="v1")
    state = served(version("v1", MIDDLE, 20), version("v2", MIDDLE, 40), update)
    names, judges = dict.fromkeys(("v2", "v3"), 0), [gates.NoWorse()]
    noise = np.random.default_rng(3)
    state.compared = since(0.8, 0.82, 12, noise)
    assert standings(state).preferred() == {MIDDLE, UPDATE}
    for value, found in ((0.0, "v2"), (0.1, "v3")):
        both = [passed("v3", -0.1, 0.1, value=value), passed("v2", -0.1, 0.1, value=0.0)]
        assert winner.best(standings(state), both, names, judges).version == found


def test_whether_it_pays_where_it_leads_is_told_by_the_batches_next_to_it() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40), version("v3", UPDATE, 40))
    near, far = brief_sides(1, 0.2, 8), [one for i in (2, 3, 4) for one in brief_sides(i, -0.2, 5)]
    state.compared = [replace(one, kept={BRIEF: 0.6}) for one in near + far]
    assert standings(state).preferred() == {BRIEF}


def test_a_window_of_one_step_that_is_asked_for_in_every_turn_is_one_like_another() -> None:
    recipes = [Challenger(select=selection.Sliding(many), name=f"{many}") for many in (1, 5)]
    state = served(version("v1", "5", 20), version("v2", "1", 40), version("v3", "5", 40))
    both = [passed("v2", 0.02, 0.30), passed("v3", -0.03, 0.04)]
    names = dict.fromkeys(("v2", "v3"), 0)
    assert winner.best(Standings(state, recipes), both, names, [gates.NoWorse()]).version == "v2"


def brief_sides(age: int | None, gain: float, count: int, seed: int = 9) -> list[Side]:
    """Return what a window of one step gained over the leader, so many batches after it; None: on the holdout."""
    drawn = 0.01 * np.random.default_rng(seed).normal(size=count)
    ages = {} if age is None else {MIDDLE: age, BRIEF: age}
    return [Side(100, {MIDDLE: 0.6, BRIEF: 0.6 + gain + a}, ages=ages) for a in drawn]


def test_a_window_of_one_step_leads_by_the_batches_next_to_it() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40))
    far = [one for age in (2, 3, 4) for one in brief_sides(age, -0.2, 5)]
    state.compared = [one for age in (-1, 0) for one in brief_sides(age, 0.1, 9)]
    assert standings(state).leader().name == MIDDLE, "of late labels, from before it served"  # type: ignore[union-attr]
    state.compared = far + brief_sides(1, 0.1, ENOUGH - 1)
    assert standings(state).leader().name == MIDDLE  # type: ignore[union-attr]
    state.compared = far + brief_sides(None, 0.1, 3) + brief_sides(1, 0.1, 3)
    assert standings(state).leader().name == BRIEF  # type: ignore[union-attr]
    assert running(state, 41, brief=True) >= {BRIEF}, "and is trained with every batch"
    state.compared = brief_sides(2, 0.2, 20) + brief_sides(1, -0.05, ENOUGH)
    assert standings(state).leader().name == MIDDLE  # type: ignore[union-attr]


def test_who_outdoes_one_that_outdid_the_first_leads() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40), version("v3", SHORT, 40))
    state.compared = brief_sides(1, 0.1, 8)
    assert standings(state).leader().name == BRIEF  # type: ignore[union-attr]
    ages = {BRIEF: 1, SHORT: 1}
    # The first named was hardly ever asked beside the short one: it was seldom trained since.
    pairs = [(0.7 + 0.01 * i, 0.75 + 0.011 * i) for i in range(8)]
    state.compared += [Side(100, {BRIEF: one, SHORT: other}, ages=ages) for one, other in pairs]
    assert standings(state).leader().name == SHORT  # type: ignore[union-attr]


@pytest.mark.parametrize("fitted", [False, True], ids=["as it passed", "with a last fit"])
def test_where_one_step_serves_and_does_not_lead_it_is_trained_with_the_next(
    fitted: bool,
) -> None:
    state = often_tried(served(version("v1", MIDDLE, 40), version("v2", BRIEF, 40)))
    if fitted:
        last = replace(version("v3", UPDATE, 40), start="champion", parent="v2", final_of="v2")
        state.versions["v3"] = last
    state.champion, state.recipes[UPDATE] = "v3" if fitted else "v2", Recipe(last="v3")
    state.compared = brief_sides(1, -0.1, ENOUGH)
    assert standings(state).leader().name == MIDDLE  # type: ignore[union-attr]
    assert BRIEF in running(state, 41, brief=True)
    state.champion = "v1"
    assert BRIEF not in running(state, 41, brief=True)


def test_beside_updates_alone_a_window_of_one_step_may_lead_too() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40))
    known = [replace(one, values={BRIEF: one.values[BRIEF]}) for one in brief_sides(1, 0.1, 6)]
    for kept, found in ((0.6, BRIEF), (0.8, MIDDLE)):
        state.compared = [replace(one, kept={BRIEF: kept}) for one in known]
        assert standings(state).leader().name == found  # type: ignore[union-attr]


def test_better_than_updates_and_worse_than_the_leader_a_window_of_one_step_does_not_lead() -> None:
    state = served(version("v1", MIDDLE, 20), version("v2", BRIEF, 40))
    for gain, found in ((-0.3, MIDDLE), (0.0, BRIEF)):
        known = brief_sides(1, gain, 8)
        state.compared = [replace(one, kept={BRIEF: 0.2}) for one in known]
        assert standings(state).leader().name == found  # type: ignore[union-attr]


def test_it_joins_what_runs_until_it_is_shown_to_do_worse() -> None:
    state = often_tried(served(*[version(f"v{i}", MIDDLE, 40, turn=i) for i in range(8)]))
    state.recipes[BRIEF] = Recipe()
    assert running(state, 41, brief=True) == {BRIEF, UPDATE}, "not known yet"
    few = standings(state, enough=50).held(chosen(41), Why.STEP)
    assert few[BRIEF] == "10 rows, 50 asked for"
    state.versions["v99"] = version("v99", BRIEF, 41)
    state.recipes[BRIEF].last = "v99"
    state.recipes[MIDDLE].last = "v98"
    state.level.batch = 40
    for gain, first in ((0.0, 41 + GLANCE), (0.008, 42), (-0.1, None)):
        state.compared = [replace(one, batch=40) for one in brief_sides(1, gain, ENOUGH)]
        state.versions["v98"] = version("v98", MIDDLE, 46)
        days = [day for day in range(42, 48) if BRIEF in running(state, day, brief=True)]
        assert days[:1] == ([] if first is None else [first])
    state.compared = []
    values = [0.8, 0.82, 0.79, 0.81, 0.8, 0.82]
    state.realised = [(35 + i, value) for i, value in enumerate(values)]
    assert running(state, 41, brief=True) == set(), "alone it does not run"


def test_where_it_does_as_well_it_is_looked_at_more_seldom_the_longer_nothing_changes() -> None:
    state = often_tried(served(version("v1", MIDDLE, 10), version("v2", BRIEF, 41)))
    state.champion, state.recipes[MIDDLE].last, state.recipes[BRIEF].last = "v1", "v98", "v2"
    found = []
    for changed in (0, 38, 30):
        state.level.batch = changed
        state.compared = [replace(one, batch=40) for one in brief_sides(1, 0.0, ENOUGH)]
        state.versions["v98"] = version("v98", MIDDLE, 80)
        looks = [day for day in range(42, 81) if BRIEF in running(state, day, brief=True)]
        found.append(looks[:1])
    # Half as many batches since the last look as since the first training, or a change.
    assert found == [[72], [41 + GLANCE], [52]]


def test_of_several_windows_of_one_step_each_joins_while_it_may_do_better() -> None:
    one, other = (
        Challenger(select=selection.Sliding(1), learner=learner, every=None)
        for learner in (BOOSTED, LogisticRegression())
    )
    state = often_tried(served(*[version(f"v{i}", MIDDLE, 40, turn=i) for i in range(8)]))
    state.batch = 41
    for sides, found in (([], {one.name, other.name}), (brief_sides(1, -0.1, 8), {other.name})):
        renamed = [
            replace(side, values={MIDDLE: side.values[MIDDLE], one.name: side.values[BRIEF]})
            for side in sides
        ]
        state.compared = [replace(side, ages={MIDDLE: 1, one.name: 1}) for side in renamed]
        known = Standings(state, [RECIPES[0], one, other, RECIPES[-1]])
        rows_of = chosen(41) | dict.fromkeys((one.name, other.name), rows(40, 41))
        held = known.held(rows_of, Why.STEP)
        assert {name for name, said in held.items() if not said} == {UPDATE} | found


def test_where_it_leads_the_others_are_looked_at_as_often_as_they_change() -> None:
    # However much was tried and never served: a leader of one step is a small part of it.
    looks = [version(f"v{10 + i}", WHOLE, 10, state="refused") for i in range(9)]
    others = version("v1", MIDDLE, 40), version("v2", BRIEF, 44), version("v3", SHORT, 44)
    state = served(*looks, *others)
    state.recipes[BRIEF].trainings = 40
    state.compared = brief_sides(1, 0.1, 8)
    assert standings(state).leader().name == BRIEF  # type: ignore[union-attr]
    assert running(state, 45, brief=True) == {BRIEF, WHOLE, UPDATE}
    assert (
        "20% of its rows are new, 25% asked for"
        in standings(state).held(chosen(45), Why.STEP)[SHORT]
    )
    assert running(state, 46) >= {SHORT, UPDATE}
    ages = {SHORT: 1, BRIEF: 1}
    state.compared += [Side(100, {SHORT: 0.6 + i / 100, BRIEF: 0.7}, ages=ages) for i in range(6)]
    first = next(day for day in range(45, 60) if SHORT in running(state, day))
    assert first == 44 + 5, "shown to do worse: when all its rows are new"


def test_of_a_loss_the_one_shown_to_lose_less_is_promoted() -> None:
    better, leading = passed("v2", 0.05, 0.2, value=0.3), passed("v3", -0.03, 0.04, value=0.5)
    assert promoted(better, leading, greater_is_better=False) == "v2"


def test_without_a_gate_the_leader_is_promoted_and_not_the_dearest() -> None:
    made = [version("v2", SHORT, 40), version("v3", MIDDLE, 40), version("v4", WHOLE, 40)]
    found = standings(served(version("v1", MIDDLE, 20), *made))
    assert found.ungated(made).name == "v3"
    assert found.ungated([made[0], made[2]]).name == "v4"
    brief = version("v5", BRIEF, 40)
    assert found.ungated([made[0], brief]).name == "v2", "one step alone has shown nothing"
    assert found.ungated([brief]).name == "v5"
