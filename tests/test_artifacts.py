"""Artifacts are named by their content, appear whole or not at all, and are checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keepfit.artifacts
from keepfit.artifacts import Artifacts
from keepfit.errors import ArtifactCorrupt, ConfigError, ExtraMissing, KeepfitError

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")


@pytest.fixture(params=["local", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "local":
        return Artifacts(tmp_path / "artifacts")
    return Artifacts(f"memory://{secrets.token_hex(8)}/artifacts")


@pytest.fixture
def local(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path)


@contextlib.contextmanager
def little_space(size: int) -> Iterator[None]:
    """Let the operating system refuse files above a size, as a full disk does."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_content_is_read_back_by_its_digest(artifacts: Artifacts) -> None:
    digest = artifacts.put(b"a model")
    assert digest == hashlib.sha256(b"a model").hexdigest()
    assert artifacts.get(digest) == b"a model"
    assert artifacts.has(digest)
    assert artifacts.check() == []


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_any_content_is_read_back_as_it_was(content: bytes) -> None:
    artifacts = Artifacts("memory://property")
    assert artifacts.get(artifacts.put(content)) == content


def test_the_same_content_is_one_file(artifacts: Artifacts) -> None:
    assert artifacts.put(b"same") == artifacts.put(b"same")
    other = artifacts.put(b"other")
    assert list(artifacts.digests()) == sorted([hashlib.sha256(b"same").hexdigest(), other])


def test_a_store_without_files_is_empty_and_is_not_created(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path / "artifacts")
    assert list(artifacts.digests()) == artifacts.check() == []
    assert artifacts.recall("key") is None
    assert not artifacts.has("0" * 64)
    assert not (tmp_path / "artifacts").exists()


def test_the_path_of_a_file_is_known_only_on_this_machine(tmp_path: Path) -> None:
    artifacts = Artifacts(f"file://{tmp_path}")
    digest = artifacts.put(b"a model")
    path = artifacts.path(digest)
    assert path is not None
    assert path.read_bytes() == b"a model"
    assert path.name == digest
    assert artifacts.path("0" * 64) is None
    elsewhere = Artifacts("memory://paths")
    assert elsewhere.path(elsewhere.put(b"a model")) is None


def test_a_missing_file_is_named_with_what_to_do(artifacts: Artifacts) -> None:
    with pytest.raises(ArtifactCorrupt, match=f"{'0' * 64} is missing from") as caught:
        artifacts.get("0" * 64)
    assert "backup" in (caught.value.hint or "")


def test_a_changed_file_is_never_handed_out_and_is_healed_by_putting_it_again(
    local: Artifacts,
) -> None:
    digest = local.put(b"a model")
    path = local.path(digest)
    assert path is not None
    path.write_bytes(b"a mode")
    with pytest.raises(
        ArtifactCorrupt, match="is damaged: expected content with this digest, got 6 bytes"
    ):
        local.get(digest)
    assert len(local.check()) == 1
    assert local.put(b"a model") == digest
    assert local.get(digest) == b"a model"
    assert local.check() == []


@pytest.mark.parametrize(
    "name", ["", "v1", "../../etc/passwd", "A" * 64, "records", "0" * 64 + "\n"]
)
def test_what_is_no_digest_is_refused(artifacts: Artifacts, name: str) -> None:
    for ask in (artifacts.get, artifacts.has, artifacts.path):
        with pytest.raises(ConfigError, match="expected a digest"):
            ask(name)


def test_a_record_is_found_by_its_key_and_replaced_by_a_newer_one(artifacts: Artifacts) -> None:
    assert artifacts.recall("recipe/and data") is None
    artifacts.remember("recipe/and data", {"artifact": "a", "cost": {"cpu_seconds": 1.5}})
    assert artifacts.recall("recipe/and data") == {"artifact": "a", "cost": {"cpu_seconds": 1.5}}
    artifacts.remember("recipe/and data", {"artifact": "b"})
    assert artifacts.recall("recipe/and data") == {"artifact": "b"}
    assert artifacts.recall("recipe") is None
    assert list(artifacts.digests()) == []


def test_a_record_that_is_no_json_is_refused(artifacts: Artifacts) -> None:
    with pytest.raises(ConfigError, match="'key' is not JSON"):
        artifacts.remember("key", {"x": object()})
    assert artifacts.recall("key") is None


def test_a_record_cut_short_at_any_place_counts_as_none(local: Artifacts, tmp_path: Path) -> None:
    local.remember("key", {"artifact": "a", "n": 1})
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert local.recall("key") is None
    assert "damaged" in local.check()[0]
    local.remember("key", {"artifact": "b"})
    assert local.recall("key") == {"artifact": "b"}


def test_a_record_under_another_key_is_not_taken_for_it(local: Artifacts, tmp_path: Path) -> None:
    local.remember("key", {"artifact": "a"})
    (file,) = files(tmp_path)
    local.remember("other", {"artifact": "b"})
    (other,) = set(files(tmp_path)) - {file}
    other.replace(file)
    assert local.recall("key") is None


@POSIX
def test_a_full_disk_is_said_and_leaves_no_part_of_a_file(local: Artifacts, tmp_path: Path) -> None:
    kept = local.put(b"small")
    with little_space(10_000):
        with pytest.raises(KeepfitError, match="cannot be written: the disk is full") as caught:
            local.put(b"x" * 20_000)
        with pytest.raises(KeepfitError, match="the disk is full"):
            local.remember("key", {"x": "y" * 20_000})
    assert "free some space" in (caught.value.hint or "")
    assert [path.name for path in files(tmp_path)] == [kept]
    assert local.get(local.put(b"x" * 20_000)) == b"x" * 20_000


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    artifacts = Artifacts(tmp_path / "file" / "artifacts")
    with pytest.raises(KeepfitError, match="cannot be") as caught:
        artifacts.put(b"a model")
    assert "permissions" in (caught.value.hint or "")


def test_many_threads_may_put_the_same_content(local: Artifacts, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: local.put(b"a model" * 10_000), range(24)))
        list(pool.map(lambda n: local.remember("key", {"n": n}), range(24)))
    assert list(local.digests()) == list(digests)
    assert local.check() == []
    assert local.recall("key") is not None
    assert len(files(tmp_path)) == 2


@POSIX
def test_a_process_killed_while_it_writes_leaves_only_whole_files(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from keepfit.artifacts import Artifacts\n"
        "artifacts = Artifacts(sys.argv[1])\n"
        "for n in range(1_000_000):\n"
        "    print(artifacts.put(b'%d' % n * 100_000), flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(keepfit.artifacts.__file__).parents[1])},
    )
    assert process.stdout is not None
    reported = [process.stdout.readline().strip() for _ in range(10)]
    process.kill()
    process.communicate()
    artifacts = Artifacts(tmp_path)
    assert set(reported) <= set(artifacts.digests())
    for digest in artifacts.digests():
        artifacts.get(digest)
    # What was being written is in a folder of its own, and said.
    assert all("never finished" in problem for problem in artifacts.check())


def test_a_place_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a folder or a URL for artifacts"):
        Artifacts("nonsense://bucket/artifacts")
    with pytest.raises(ConfigError):
        Artifacts("")


def test_a_place_whose_package_is_not_installed_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ExtraMissing, match="s3fs") as caught:
        Artifacts("s3://bucket/artifacts")
    assert caught.value.hint == 'pip install "fsspec[s3]"'


def test_a_folder_of_this_machine_needs_no_fsspec(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from keepfit.artifacts import Artifacts\n"
        "artifacts = Artifacts(sys.argv[1])\n"
        "artifacts.get(artifacts.put(b'a model'))\n"
        "sys.exit('fsspec' in sys.modules)\n"
    )
    path = str(Path(keepfit.artifacts.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, check=False
    )
    assert done.returncode == 0
