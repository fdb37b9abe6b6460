"""The mirror: what a real MLflow on SQLite holds of a pipeline's facts."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from keepfit import Ledger, facts
from keepfit import load as loaded
from keepfit.artifacts import Artifacts
from keepfit.errors import ArtifactCorrupt, ConfigError
from keepfit.home import places
from keepfit.mirror import Done, Mirror, Settings, settings_of
from keepfit.mirror.pages import LONGEST, Book
from keepfit.mirror.store import package
from tests.mlflows import client_of, registered
from tests.shell import FILE, keepfit
from tests.waits import PATIENCE
from tests.worlds import START, stream


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> tuple[Path, Settings]:
    """A pipeline that ran once by the command, with the mirror on."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "rows").mkdir()
    (folder / "churn.py").write_text(FILE)
    stream(40, 50).write_parquet(folder / "rows" / "first.parquet")
    settings = registered(folder, mlflow_tables)
    (folder / "keepfit.toml").write_text(
        f'[mlflow]\ntracking_uri = "{settings.tracking_uri}"\nartifacts = "{settings.artifacts}"\n'
    )
    assert keepfit(folder, "run", "churn.py", "--once").status == 0
    return folder, settings


def mirror(folder: Path, settings: Settings, **given: Any) -> Mirror:
    where = places(folder / ".keepfit")
    return Mirror(
        Ledger(where["ledger"]), Artifacts(where["artifacts"]), "churn", settings, **given
    )


def held(client: Any, version: str) -> Any:
    (found,) = client.search_model_versions(
        f"name = 'churn' AND tags.`keepfit.version` = '{version}'"
    )
    return found


def test_a_run_mirrors_what_it_did_before_it_ends(ran: tuple[Path, Settings]) -> None:
    folder, settings = ran
    client = client_of(settings)
    status = keepfit(folder, "status", "--json").told
    champion = client.get_model_version_by_alias("churn", "champion")
    assert champion.tags["keepfit.version"] == status["champion"]
    assert champion.tags["keepfit.state"] == "champion"
    assert "keepfit.promoted" in champion.tags
    said = keepfit(folder, "mirror", "churn.py", "--json").told
    assert said == {
        "pipeline": "churn", "made": [], "updated": [], "moved": [], "gone": [], "held_by": "",
    }  # fmt: skip


def test_a_run_over_there_holds_recipe_figures_and_reasons(ran: tuple[Path, Settings]) -> None:
    folder, settings = ran
    client = client_of(settings)
    newest = client.search_model_versions("name = 'churn'")[0]
    run = client.get_run(newest.run_id)
    version = loaded(f"churn@{newest.tags['keepfit.version']}", home=folder / ".keepfit").version
    assert run.data.tags["keepfit.digest"] == version.artifact
    assert run.data.params["C"] == "1.0"
    assert run.data.params["recipe.challenger"] == version.challenger
    assert run.data.params["recipe.rows"] == str(version.snapshot.rows)
    assert run.data.metrics["cost.cpu_seconds"] == version.cost.cpu_seconds
    first = held(client, "v1")
    scores = client.get_metric_history(first.run_id, "live.roc_auc")
    with Ledger(places(folder / ".keepfit")["ledger"]) as ledger:
        scored = [
            (entry.fact.batch, entry.fact.value)
            for entry in ledger.facts("churn")
            if isinstance(entry.fact, facts.Scored) and entry.fact.version == "v1"
        ]
    assert scored
    assert sorted((one.step, one.value) for one in scores) == sorted(scored)


def test_pyfunc_answers_as_keepfit_does(ran: tuple[Path, Settings]) -> None:
    folder, settings = ran
    mlflow, pyfunc = package(), package("mlflow.pyfunc")
    mlflow.set_tracking_uri(settings.tracking_uri)
    rows = stream(1, 30, seed=3).select("x", "y", "kind")
    answered = pyfunc.load_model("models:/churn@champion").predict(rows.to_pandas())
    ours = loaded("churn@champion", home=folder / ".keepfit").predict(rows)
    assert pl.from_pandas(answered).equals(ours)


def test_a_file_that_was_changed_over_there_is_not_opened(
    ran: tuple[Path, Settings], tmp_path: Path
) -> None:
    from keepfit.mirror.pyfunc import MODEL, _load_pyfunc

    folder, _ = ran
    kept = next((folder / "mlflow").rglob(MODEL))
    shutil.copytree(kept.parent, tmp_path / "data")
    assert _load_pyfunc(str(tmp_path / "data")).model.task == "binary"
    with (tmp_path / "data" / MODEL).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactCorrupt, match="expected a model with the digest"):
        _load_pyfunc(str(tmp_path / "data"))


def test_what_somebody_deletes_there_stays_deleted_unless_it_serves(
    ran: tuple[Path, Settings], tmp_path: Path, mlflow_tables: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(ran[0] / ".keepfit", folder / ".keepfit")
    settings = registered(tmp_path, mlflow_tables)
    client = client_of(settings)
    copyist = mirror(folder, settings)
    before = copyist.look()
    assert before.made[0] == "v1"
    assert copyist.look() == Done()
    champion = client.get_model_version_by_alias("churn", "champion")
    name = champion.tags["keepfit.version"]
    old = next(one for one in before.made if one not in (name, "v1"))
    told = client.get_metric_history(champion.run_id, "live.roc_auc")
    for version in (name, old):
        client.delete_model_version("churn", held(client, version).version)
    with Ledger(places(folder / ".keepfit")["ledger"]) as ledger:
        news = facts.Scored(batch=99, version=old, metric="roc_auc", value=0.5, n=9)
        ledger.append("churn", [news], at=START + timedelta(days=60))
    done = copyist.look()
    assert done.made == (name,)
    assert done.gone == (old,)
    again = client.get_model_version_by_alias("churn", "champion")
    assert again.tags["keepfit.version"] == name
    figures = client.get_metric_history(again.run_id, "live.roc_auc")
    assert [(one.step, one.value) for one in figures] == [(one.step, one.value) for one in told]
    assert not client.search_model_versions(f"name = 'churn' AND tags.`keepfit.version` = '{old}'")


def test_a_copy_without_a_note_of_it_is_found_again(
    ran: tuple[Path, Settings], tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ran
    settings = registered(tmp_path, mlflow_tables)
    first = mirror(folder, settings)
    monkeypatch.setattr(first, "_keep", lambda kept: None)
    made = first.look().made
    again = mirror(folder, settings).look()
    assert again.made == made
    assert len(client_of(settings).search_model_versions("name = 'churn'")) == len(made)


def test_one_that_does_not_answer_holds_up_no_end(
    ran: tuple[Path, Settings], tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepfit.mirror.follower.LOOKED_EVERY", 0.01)
    monkeypatch.setattr("keepfit.mirror.follower.CLOSING", 0.05)
    folder, _ = ran
    asked, answer = threading.Event(), threading.Event()
    copyist = mirror(folder, registered(tmp_path, mlflow_tables))

    def hangs() -> None:
        asked.set()
        answer.wait()

    monkeypatch.setattr(copyist.store, "prepare", hangs)
    copyist.start()
    assert asked.wait(PATIENCE)
    copyist.close()
    assert copyist._thread.is_alive()
    answer.set()
    copyist._thread.join()


def test_the_next_try_waits_longer_each_time(
    ran: tuple[Path, Settings], tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ran
    said: list[str] = []
    tries: list[float] = []
    now = [100.0]
    copyist = mirror(folder, registered(tmp_path, mlflow_tables), warn=said.append)

    def refuses() -> None:
        tries.append(now[0])
        raise ConnectionError("connection refused")

    monkeypatch.setattr(copyist.store, "prepare", refuses)
    monkeypatch.setattr("keepfit.mirror.follower.time.monotonic", lambda: now[0])
    while now[0] < 140.0:
        copyist.looked()
        now[0] += 1.0
    assert tries == [100.0, 105.0, 115.0, 135.0]
    assert len(said) == 1


def test_long_texts_are_cut_and_odd_names_are_made_fit(tmp_path: Path) -> None:
    book = Book("churn")
    with Ledger(str(tmp_path / "ledger.db")) as ledger:
        ledger.append("churn", _life("x" * 9_000), at=START)
        for entry in ledger.facts("churn"):
            book.hear(entry)
    (page,) = book.pages()
    assert page.params()["a_b"] == "1"
    assert len(page.tags("churn")["keepfit.promoted"]) == LONGEST
    assert book.aliases() == {"champion": "v1"}


def _life(reason: str) -> list[facts.Fact]:
    """Return the facts of a version that was trained and promoted."""
    snapshot = facts.Snapshot(
        batch=1, as_of=START, selection="all", rows=5, digest="d", from_=START, to=START
    )
    return [
        facts.TrainingStarted(
            version="v1", turn=1, challenger="all", snapshot=snapshot, start="scratch",
            update="all", seed=1, ready_at=START, key="k",
        ),
        facts.Trained(
            version="v1", artifact="0" * 64, reference="", cost=facts.Cost(), code="c",
            parameters={"a&b": 1},
        ),
        facts.Promoted(version="v1", reason=reason),
    ]  # fmt: skip


# Settings ---------------------------------------------------------------------------------


def test_secrets_come_from_the_environment_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[mlflow]\ntracking_uri = "https://anna:${TOKEN}@mlflow.example.org"'
    (tmp_path / "keepfit.toml").write_text(text)
    with pytest.raises(ConfigError, match="environment variable TOKEN"):
        settings_of(tmp_path / ".keepfit")
    monkeypatch.setenv("TOKEN", "very-secret")
    settings = settings_of(tmp_path / ".keepfit")
    assert settings is not None
    assert "very-secret" in settings.tracking_uri
    assert repr(settings) == "Settings('https://…@mlflow.example.org')"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[mlflow]", "tracking_uri"),
        ('[mlflow]\ntraking_uri = "x"', "the nearest is 'tracking_uri'"),
        ("[mlflow]\ntracking_uri = 3", "expected text"),
        ("mlflow = 3", "expected a table"),
        ("[mlflow", "expected TOML"),
    ],
)
def test_settings_that_are_wrong_say_what(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "keepfit.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path / ".keepfit")
    assert match in f"{raised.value.message} {raised.value.hint}"


def test_without_settings_nothing_is_mirrored(tmp_path: Path) -> None:
    assert settings_of(tmp_path / ".keepfit") is None
    (tmp_path / "rows").mkdir()
    stream(5, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    (tmp_path / "churn.py").write_text(FILE)
    said = keepfit(tmp_path, "mirror", "churn.py")
    assert said.status == 2
    assert "[mlflow]" in said.err
