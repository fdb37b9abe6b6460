"""A client of a server: predictions, labels, rows and events over HTTP, each once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, overload
from urllib.parse import urlsplit

from keepfit.client.talk import Ask, Got, Lost, Row, Steps, Talk
from keepfit.errors import ConfigError, ExtraMissing
from keepfit.server.shapes import Answer, Heard, Labelled

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "AsyncClient", "Client", "Heard", "Labelled"]

T = TypeVar("T")
Rows: TypeAlias = Any
"""A sequence of mappings, or a Polars, pandas or Arrow table."""

TIMEOUT = 10.0
RETRIES = 5


class Client:
    """A client of one pipeline, which may be used by several threads.

    A request that is not answered, or turned away because the server is busy, is sent again,
    with growing pauses and after those that the server asks for. What arrives twice counts once:
    a row without an id is given one before it leaves, and labels and events are known by theirs.
    Any other refusal is an error at once.

    Parameters
    ----------
    url
        Where the server is: ``"https://models.example.org"``.
    pipeline
        The name of the pipeline.
    token
        The secret that ``keepfit token make`` showed, where the server asks for one.
    timeout
        Seconds that one try may take.
    retries
        How often a request is sent again.
    verify
        Whom to trust with HTTPS: the public authorities, or an `ssl.SSLContext` of your own.

    Raises
    ------
    ConfigError
        The URL is none.
    ExtraMissing
        The package of the extra ``client`` is not installed.

    Notes
    -----
    Each call may raise `AccessDenied` where a token is missing or may not do this,
    `VersionUnknown` where the server has another pipeline, `SchemaMismatch` and `ConfigError`
    where rows or labels are not as it has them, and `Unreachable` where it did not answer.
    A call with many rows sends several requests: when it ends with an error, some were taken.
    Rows that carry ids of your own may then be sent again.

    Examples
    --------
    >>> with Client("http://localhost:8000", "churn", token="keepfit_9DKi") as client:
    ...     print(client)
    <Client of churn at http://localhost:8000>
    """

    def __init__(
        self,
        url: str,
        pipeline: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        verify: Any = True,
    ) -> None:
        self._told = f"<Client of {pipeline} at {url}>"
        self._talk = Talk(pipeline, retries)
        self._http = _httpx().Client(**_options(url, token, timeout, verify))

    def __repr__(self) -> str:
        return self._told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    @overload
    def predict(self, rows: Mapping[str, Any]) -> Answer: ...
    @overload
    def predict(self, rows: Rows) -> list[Answer]: ...
    def predict(self, rows: Any) -> Any:
        """Return the answer of a row, or a list of them for a table or a sequence of rows.

        Each names the version that gave it, and the ``id`` to send the label for.
        """
        return self._run(self._talk.predict(rows))

    def label(
        self, id: int | str, label: bool | int | float | str, *, known_at: datetime | None = None
    ) -> Labelled:
        """Send the label of a row, known now where no other moment is given."""
        return self.labels([_label(id, label, known_at)])

    def labels(self, labels: Rows) -> Labelled:
        """Send labels: rows or a table with ``id``, ``label`` and, if you like, ``known_at``.

        The answer says how many were new, known already or corrections, and which ids nobody
        has sent a row for yet; their labels wait.
        """
        return self._run(self._talk.labels(labels))

    def rows(self, rows: Rows) -> list[int | str]:
        """Send rows, with or without labels, that no prediction is asked of; return their ids."""
        return self._run(self._talk.rows(rows))

    def events(self, events: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Heard:
        """Send events for `triggers.OnEvent`, as CloudEvents; the ``type`` alone is needed."""
        return self._run(self._talk.events(events))

    def _run(self, steps: Steps[T]) -> T:
        found: Got | Lost | None = None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Ask):
                found = self._send(step)
            else:
                time.sleep(step)
                found = None

    def _send(self, ask: Ask) -> Got | Lost:
        try:
            return _got(self._http.request(**_request(ask)))
        except _httpx().TransportError as error:
            return _lost(error)


class AsyncClient:
    """The client for ``async`` code: `Client`, with ``await`` before each call.

    Parameters
    ----------
    url, pipeline, token, timeout, retries, verify
        As of `Client`.

    Examples
    --------
    >>> AsyncClient("http://localhost:8000", "churn")
    <AsyncClient of churn at http://localhost:8000>
    """

    def __init__(
        self,
        url: str,
        pipeline: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        verify: Any = True,
    ) -> None:
        self._told = f"<AsyncClient of {pipeline} at {url}>"
        self._talk = Talk(pipeline, retries)
        self._http = _httpx().AsyncClient(**_options(url, token, timeout, verify))

    def __repr__(self) -> str:
        return self._told

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    @overload
    async def predict(self, rows: Mapping[str, Any]) -> Answer: ...
    @overload
    async def predict(self, rows: Rows) -> list[Answer]: ...
    async def predict(self, rows: Any) -> Any:
        """Return the answer of a row, or a list of them, as `Client.predict` does."""
        return await self._run(self._talk.predict(rows))

    async def label(
        self, id: int | str, label: bool | int | float | str, *, known_at: datetime | None = None
    ) -> Labelled:
        """Send the label of a row, as `Client.label` does."""
        return await self.labels([_label(id, label, known_at)])

    async def labels(self, labels: Rows) -> Labelled:
        """Send labels, as `Client.labels` does."""
        return await self._run(self._talk.labels(labels))

    async def rows(self, rows: Rows) -> list[int | str]:
        """Send rows, as `Client.rows` does."""
        return await self._run(self._talk.rows(rows))

    async def events(self, events: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Heard:
        """Send events, as `Client.events` does."""
        return await self._run(self._talk.events(events))

    async def _run(self, steps: Steps[T]) -> T:
        import anyio  # which the package of the extra brings along: asyncio and trio alike

        found: Got | Lost | None = None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Ask):
                found = await self._send(step)
            else:
                await anyio.sleep(step)
                found = None

    async def _send(self, ask: Ask) -> Got | Lost:
        try:
            return _got(await self._http.request(**_request(ask)))
        except _httpx().TransportError as error:
            return _lost(error)


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise ExtraMissing(
            "expected the package `httpx` to ask a server with, and it is not installed",
            hint='pip install "keepfit[client]"',
        ) from None
    return httpx


def _options(url: str, token: str | None, timeout: float, verify: Any) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"expected the address of a server, got {url!r}", hint='such as "http://localhost:8000"'
        )
    headers = {}
    if token is not None:
        secret = token.strip()
        if not secret or not secret.isascii() or not secret.isprintable():
            raise ConfigError(
                "expected a token, got text with signs that none has",
                hint="`keepfit token make` shows one",
            )
        headers["authorization"] = f"Bearer {secret}"
    return {"base_url": url, "headers": headers, "timeout": timeout, "verify": verify}


def _request(ask: Ask) -> dict[str, Any]:
    headers = {"content-type": ask.kind} if ask.body else {}
    return {"method": ask.method, "url": ask.path, "content": ask.body, "headers": headers}


def _got(response: httpx.Response) -> Got:
    return Got(response.status_code, response.content, response.headers.get("retry-after"))


def _lost(error: Exception) -> Lost:
    return Lost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _label(id: int | str, label: Any, known_at: datetime | None) -> Row:
    made = {"id": id, "label": label}
    return made if known_at is None else {**made, "known_at": known_at}
