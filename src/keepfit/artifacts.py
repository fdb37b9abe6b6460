"""Files named by their content, and small records found by a key."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from keepfit.errors import ArtifactCorrupt, ConfigError, ExtraMissing, KeepfitError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RECORDS = "records"
_UNFINISHED = "unfinished"


class Artifacts:
    """A store of files named by the SHA-256 of their content.

    A file never changes, the same content is kept once, and what is read is checked
    against its name. Nothing is created before the first file.

    Parameters
    ----------
    url_or_path
        A folder, or the URL of one that fsspec knows (``"s3://bucket/artifacts"``).
    durable
        Whether a file outlasts a loss of power once it was put. What can be made again does
        without; what was lost then shows as damaged, never as whole.

    Raises
    ------
    ConfigError
        Nobody knows such a URL.
    ExtraMissing
        The package for such URLs is not installed.

    Examples
    --------
    >>> artifacts = Artifacts("memory://example")
    >>> digest = artifacts.put(b"a model")
    >>> artifacts.get(digest)
    b'a model'
    """

    def __init__(self, url_or_path: str | os.PathLike[str], *, durable: bool = True) -> None:
        text = os.fspath(url_or_path)
        if not text:
            raise ConfigError("expected a folder or a URL for artifacts, got ''")
        self._place = text
        self._files: _Files = (
            _Remote(text)
            if "://" in text and not text.startswith("file://")
            else _Local(Path(text.removeprefix("file://")).expanduser().absolute(), durable)
        )

    def __repr__(self) -> str:
        """Return where the files are."""
        return f"Artifacts({self._place!r})"

    def put(self, content: bytes) -> str:
        """Keep some content and return its digest; the same content is kept once.

        Raises
        ------
        KeepfitError
            The disk is full or the folder may not be written to; no part of a file stays.
        """
        digest = hashlib.sha256(content).hexdigest()
        if self._read(digest) != content:  # a damaged file is written anew
            self._write(digest, content)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the content that has a digest.

        Raises
        ------
        ConfigError
            The text is not a digest.
        ArtifactCorrupt
            There is no such file, or its content has another digest.
        KeepfitError
            The file cannot be read.
        """
        content = self._read(_digest(digest))
        if content is None:
            raise ArtifactCorrupt(
                f"artifact {digest} is missing from {self._place}",
                hint="is this the folder that the ledger belongs to? if so, restore the file "
                "from a backup, or train the version again",
            )
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise ArtifactCorrupt(
                f"artifact {digest} in {self._place} is damaged: expected content with this "
                f"digest, got {len(content):,} bytes with {found}",
                hint="restore the file from a backup, or train the version again",
            )
        return content

    def has(self, digest: str) -> bool:
        """Return whether a file with this digest is there; its content is not checked.

        Raises
        ------
        ConfigError
            The text is not a digest.
        """
        return self._files.exists(_digest(digest))

    def path(self, digest: str) -> Path | None:
        """Return where a file lies on this machine; None when it is elsewhere or missing.

        Raises
        ------
        ConfigError
            The text is not a digest.
        """
        return self._files.path(_digest(digest))

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Keep a small record under a key, in place of the one before.

        Raises
        ------
        ConfigError
            The record is not JSON.
        KeepfitError
            The disk is full or the folder may not be written to.
        """
        try:
            content = msgspec.json.encode({"key": key, "value": value})
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise ConfigError(f"the record {key!r} is not JSON: {error}") from error
        self._write(_record(key), content)

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return the record under a key, or None; a damaged one counts as none.

        Raises
        ------
        KeepfitError
            The record cannot be read.
        """
        content = self._read(_record(key))
        record = _decoded(content) if content is not None else None
        return record.value if record is not None and record.key == key else None

    def digests(self) -> Iterator[str]:
        """Yield the digest of every file, sorted.

        Raises
        ------
        KeepfitError
            The folder cannot be read.
        """
        yield from (name for name in self._names("") if _DIGEST.fullmatch(name))

    def check(self) -> list[str]:
        """Return what is wrong, one sentence each; nothing when all is well.

        Every file is read.
        """
        problems = []
        try:
            for digest in self.digests():
                try:
                    self.get(digest)
                except ArtifactCorrupt as error:
                    problems.append(error.message)
            for name in self._names(_RECORDS):
                content = self._read(f"{_RECORDS}/{name}")
                if content is not None and _decoded(content) is None:
                    problems.append(f"record {name} in {self._place} is damaged: delete it")
            problems.extend(
                f"{_UNFINISHED}/{name} in {self._place} was never finished: delete it"
                for name in self._names(_UNFINISHED)
            )
        except KeepfitError as error:
            problems.append(error.message)
        return problems

    def _names(self, folder: str) -> list[str]:
        with self._explained("listed"):
            return sorted(self._files.names(folder))

    def _read(self, name: str) -> bytes | None:
        with self._explained("read"):
            return self._files.read(name)

    def _write(self, name: str, content: bytes) -> None:
        with self._explained("written"):
            self._files.write(name, content)

    @contextlib.contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            hint = (
                "free some space; no part of a file was left behind"
                if full
                else "check the folder, its permissions and its disk, or set KEEPFIT_ARTIFACTS"
            )
            what = "the disk is full" if full else error.strerror or str(error)
            message = f"artifacts in {self._place} cannot be {done}: {what}"
            raise KeepfitError(message, hint=hint) from error


class _Stored(msgspec.Struct):
    """A record as it is kept; the key tells whose it is."""

    key: str
    value: dict[str, Any]


def _decoded(content: bytes) -> _Stored | None:
    try:
        return msgspec.json.decode(content, type=_Stored)
    except (msgspec.MsgspecError, ValueError):
        return None


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ConfigError(f"expected a digest of 64 hexadecimal digits, got {text!r}")
    return text


def _record(key: str) -> str:
    return f"{_RECORDS}/{hashlib.sha256(key.encode()).hexdigest()}.json"


class _Files(Protocol):
    """A folder: whole files in, whole files out."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None when there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Make a file appear at once with all its content."""

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""

    def path(self, name: str) -> Path | None:
        """Return the file on this machine, if it is on this machine."""

    def names(self, folder: str) -> list[str]:
        """Return the files in a folder, none when there is no such folder."""


class _Local:
    """A folder of this machine; paths are texts, because many of its files are small."""

    def __init__(self, root: Path, durable: bool) -> None:
        self._root = str(root)
        self._durable = durable

    def read(self, name: str) -> bytes | None:
        try:
            with open(f"{self._root}/{name}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        final = f"{self._root}/{name}"
        own = f"{os.path.basename(name)}.{os.getpid()}.{secrets.token_hex(4)}"
        unfinished = f"{self._root}/{_UNFINISHED}/{own}"
        try:
            self._place(unfinished, final, content)
        except FileNotFoundError:  # the first file of its folder
            for path in (final, unfinished):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            self._place(unfinished, final, content)

    def _place(self, unfinished: str, final: str, content: bytes) -> None:
        try:
            with open(unfinished, "xb") as file:
                file.write(content)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(unfinished, final)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise
        if self._durable:
            _sync(os.path.dirname(final))

    def exists(self, name: str) -> bool:
        return os.path.isfile(f"{self._root}/{name}")

    def path(self, name: str) -> Path | None:
        return Path(self._root, name) if self.exists(name) else None

    def names(self, folder: str) -> list[str]:
        try:
            with os.scandir(f"{self._root}/{folder}") as entries:
                return [entry.name for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []


def _sync(folder: str) -> None:
    """Make a new name in a folder outlast a loss of power, where folders can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Remote:
    """A folder behind fsspec; object stores make a file appear at once by themselves."""

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._system, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            scheme = url.split("://")[0]
            raise ExtraMissing(
                f"artifacts at {url!r} need a package for {scheme}:// URLs: {error}",
                hint=f'pip install "fsspec[{scheme}]"',
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"expected a folder or a URL for artifacts, got {url!r}: {error}"
            ) from error
        self._root = str(root).rstrip("/")

    def read(self, name: str) -> bytes | None:
        try:
            return bytes(self._system.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        path = f"{self._root}/{name}"
        self._system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._system.pipe_file(path, content)

    def exists(self, name: str) -> bool:
        return bool(self._system.isfile(f"{self._root}/{name}"))

    def path(self, name: str) -> Path | None:
        return None

    def names(self, folder: str) -> list[str]:
        try:
            found = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return [str(f["name"]).rsplit("/", 1)[-1] for f in found if f["type"] == "file"]
