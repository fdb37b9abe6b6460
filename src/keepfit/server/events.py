"""Events from outside, as CloudEvents 1.0 (2019): structured, in batches, and binary."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from keepfit.errors import ConfigError
from keepfit.facts import OWN_EVENTS
from keepfit.facts.depth import DEEPEST, shallow

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
NEEDED = ("id", "source", "type")
MOST_LETTERS = 1_000
"""Letters of an attribute."""

MOST_EVENTS = 1_000
"""Events of one request: each becomes a fact of the ledger."""

MOST_BYTES = 64 * 1024
"""Bytes of an event: what CloudEvents has everybody take, and as much as a fact should hold."""

_HINT = 'send {"specversion": "1.0", "id": "17", "source": "shop", "type": "prices"}'


def read(body: bytes, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the events of a request, with their attributes and ``data``.

    Raises
    ------
    ConfigError
        It holds none, or one without its id, source or type.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if "ce-id" in headers or "ce-specversion" in headers:
        found: Any = [_binary(body, headers, kind)]
    else:
        found = _decoded(body)
        if not isinstance(found, list):
            found = [found]
    if not found:
        raise ConfigError("expected an event, got none", hint=_HINT)
    if len(found) > MOST_EVENTS:
        raise ConfigError(
            f"expected at most {MOST_EVENTS:,} events in a request, got {len(found):,}",
            hint="send them in several requests",
        )
    return [_checked(one) for one in found]


def _decoded(body: bytes) -> Any:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"expected an event as JSON, got: {error}", hint=_HINT) from None
    text = body.decode()
    if shallow(text, DEEPEST - 1) != text:  # of data alone the event is around it
        raise ConfigError(
            f"expected at most {DEEPEST - 1} lists and objects one in another in an event, got more",
            hint="send its data flat, or as text",
        )
    return found


def _binary(body: bytes, headers: Mapping[str, str], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        name.removeprefix("ce-"): _attribute(value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    if kind:
        found["datacontenttype"] = headers["content-type"]
    if not body:
        return found
    if kind == "application/json" or kind.endswith("+json"):
        return found | {"data": _decoded(body)}
    try:
        return found | {"data": body.decode()}
    except UnicodeDecodeError:
        return found | {"data_base64": base64.b64encode(body).decode()}


def _attribute(value: str) -> str:
    """Return what a header says, in which other signs than ASCII's are percent-encoded UTF-8.

    The HTTP binding of CloudEvents 1.0.2 (2022), section 3.1.3.2.
    """
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote(value)


def _checked(event: Any) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise ConfigError(f"expected an event as an object, got {type(event).__name__}", hint=_HINT)
    for name in NEEDED:
        value = event.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= MOST_LETTERS:
            raise ConfigError(f"expected text for {name!r} of an event, got {value!r}", hint=_HINT)
    if event["type"] in OWN_EVENTS:
        raise ConfigError(
            f"expected a type that is not keepfit's own, got {event['type']!r}",
            hint=f"keepfit itself writes {', '.join(map(repr, OWN_EVENTS))}: name it otherwise",
        )
    if event.get("specversion", "1.0") != "1.0":
        raise ConfigError(f"expected CloudEvents 1.0, got {event['specversion']!r}", hint=_HINT)
    length = len(msgspec.json.encode(event))
    if length > MOST_BYTES:
        raise ConfigError(
            f"expected an event of at most {MOST_BYTES:,} bytes, got {length:,}",
            hint="store what is large, and send where it lies",
        )
    return event


def key(event: Mapping[str, Any]) -> str:
    """Return what an event is told by: its source and id, of which no two make one key.

    A source is a URI reference, in which there is no blank; one that has blanks says how long it
    is, behind a blank that no other key begins with.

    Examples
    --------
    >>> key({"source": "shop", "id": "17 b"}), key({"source": "shop 17", "id": "b"})
    ('shop 17 b', ' 7 shop 17 b')
    """
    source, id_ = event["source"], event["id"]
    return f" {len(source)} {source} {id_}" if " " in source else f"{source} {id_}"
