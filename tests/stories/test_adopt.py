"""A model from elsewhere serves, is judged by what comes later, and is replaced by a better one."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.mlflows import client_of, registered
from tests.test_adopt import boosted, register
from tests.worlds import START, live, pipeline, play, stream

from keepfit import Challenger, facts, gates, selection, triggers
from keepfit.adopt import adopt
from keepfit.loop import Loop
from keepfit.mirror import Mirror, Settings

pytestmark = pytest.mark.story

SEEN_TO = START + timedelta(days=10)
FLIPS = 16


@pytest.fixture
def settings(tmp_path: Path, mlflow_tables: Path) -> Settings:
    return registered(tmp_path, mlflow_tables)


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    made = pipeline(
        stream(34, 60, flip_at=FLIPS),
        tmp_path / ".keepfit",
        trigger=triggers.Every("6d"),
        gate=gates.NoWorse(within=0.02),
        challengers=[
            Challenger(select=selection.Sliding("8d"), name="window"),
            Challenger(select=selection.SinceLast(), start="champion", name="goes on"),
        ],
        enough=50,
    )
    return live(made, START)


def taken(loop: Loop, settings: Settings, trained_to: datetime | None) -> None:
    adopt(
        loop,
        register(settings, *boosted("xgboost"), name="before"),
        tracking_uri=settings.tracking_uri,
        trained_to=trained_to,
        reason="served so far",
        by="ada",
    )


def test_it_serves_until_one_trained_here_is_better_on_later_rows(
    loop: Loop, settings: Settings
) -> None:
    loop.clock.sleep(SEEN_TO - START)
    taken(loop, settings, SEEN_TO)
    assert loop.evidence(SEEN_TO).learnt == 0, "nobody knows what it was trained on"
    entries = play(loop, 34)
    scored = [one.fact for one in entries if isinstance(one.fact, facts.Scored)]
    assert scored[0].version == "v1"
    assert scored[0].value is not None
    judged = [one.fact for one in entries if isinstance(one.fact, facts.Judged)]
    assert judged
    assert judged[0].champion == "v1"
    started = {
        one.fact.version: one.fact for one in entries if isinstance(one.fact, facts.TrainingStarted)
    }
    for fact in judged:
        cut = started[fact.version].judged_from
        assert cut is not None
        assert cut > SEEN_TO
    # Nothing goes on from a model that was trained elsewhere.
    assert started[judged[0].version].challenger == "window"
    assert not any(isinstance(one.fact, facts.TrainingFailed) for one in entries)
    promoted = [one.fact for one in entries if isinstance(one.fact, facts.Promoted)]
    assert promoted[0].previous == "v1"
    assert loop.state.champion != "v1"
    root = loop.state.root(loop.state.versions[loop.state.champion or ""])
    assert root is not None
    assert loop.evidence(START + timedelta(days=44)).learnt == root.snapshot.rows > 0
    copyist = Mirror(loop.memory.ledger, loop.memory.artifacts, "churn", settings)
    assert copyist.look().made[0] == "v1"
    tags = (
        client_of(settings)
        .search_model_versions("name = 'churn' AND tags.`keepfit.version` = 'v1'")[0]
        .tags
    )
    assert tags["keepfit.origin"] == "models:/before/1"
    loop.memory.close()


def test_what_it_may_have_seen_judges_nobody(loop: Loop, settings: Settings) -> None:
    # Registered today, and the rows of three weeks are older: nobody says that it has not seen them.
    today = START + timedelta(days=20)
    loop.clock.sleep(today - START)
    taken(loop, settings, None)
    entries = play(loop, 4)
    started = {
        one.fact.version: one.fact for one in entries if isinstance(one.fact, facts.TrainingStarted)
    }
    judged = [one.fact for one in entries if isinstance(one.fact, facts.Judged)]
    assert judged
    for fact in judged:
        cut = started[fact.version].judged_from
        assert cut is not None
        assert cut > today
        assert fact.rows <= 4 * 60
    loop.memory.close()
