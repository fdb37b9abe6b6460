"""What every method learns from a reference: stored as bytes, asked in one way, told in a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec

from keepfit.errors import ConfigError


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what methods learn."""

    def dumps(self) -> bytes:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the state that bytes hold.

        Raises
        ------
        ConfigError
            They are not what `dumps` returned.
        """
        try:
            return msgspec.msgpack.decode(content, type=cls)
        except (msgspec.MsgspecError, TypeError) as error:
            raise ConfigError(
                f"expected the bytes of a {cls.__name__}, got others: {error}",
                hint=f"{cls.__name__}.dumps() makes them",
            ) from None

    def _line(self, rows: int, metrics: Iterable[str]) -> str:
        return f"{type(self).__name__} of {rows:,} rows, for {', '.join(metrics)}"


def asked(features: Any, metric: str | None, default: str) -> tuple[Any, str]:
    """Return features and metric of a call that may leave out the features.

    Examples
    --------
    >>> asked("accuracy", None, "roc_auc"), asked(None, None, "roc_auc")
    ((None, 'accuracy'), (None, 'roc_auc'))
    """
    if isinstance(features, str) and metric is None:
        return None, features
    if isinstance(features, str):
        raise ConfigError(
            f"expected features before the metric, got {features!r} and {type(metric).__name__}",
            hint="estimate(scores, features, metric), or by name: features=rows, metric='accuracy'",
        )
    return features, default if metric is None else metric
