"""Every error keepfit raises, and one way of wording them.

KeepfitError
├── ConfigError (ValueError)          a pipeline, a call or a file written wrongly
├── SourceError (OSError)             data that cannot be read
├── SchemaMismatch (ValueError)       columns that are not the ones expected
├── ColumnUnknown (KeyError)          no such column in a report
├── LabelsMissing (LookupError)       nothing to judge or train on yet
├── NoChampion (LookupError)          nothing serves
├── VersionUnknown (LookupError)      no such version, batch or pipeline in the ledger
├── GateRefused (RuntimeError)        a person promotes what a gate refused
├── RollbackFailed (RuntimeError)     the version to go back to does not answer as it did
├── TrainingError (RuntimeError)      a training that ended without a model
├── LedgerConflict (RuntimeError)     another writer appended first
├── LeaseLost (RuntimeError)          another process holds the loop
├── AccessDenied (PermissionError)    a server that asks for a token, or for another one
├── TooLarge (ValueError)             more in one request than a server takes
├── Unreachable (ConnectionError)     a server that does not answer, however often it is asked
├── DiskFull (OSError)                nothing more can be kept
├── ArtifactCorrupt (OSError)         a stored file whose content is not what its name says
└── ExtraMissing (ImportError)        an optional package is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KeepfitError(Exception):
    """Base of all errors: what is wrong, expected, got, where; then a hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[KeepfitError], message: str, hint: str | None) -> KeepfitError:
    return kind(message, hint=hint)


class ConfigError(KeepfitError, ValueError):
    """A pipeline, a call or a file is written wrongly."""


class SourceError(KeepfitError, OSError):
    """Data cannot be read."""


class SchemaMismatch(KeepfitError, ValueError):
    """Columns are not the ones expected."""


class ColumnUnknown(KeepfitError, KeyError):
    """A report has no such column."""


class LabelsMissing(KeepfitError, LookupError):
    """There are no labels yet to judge or to train on."""


class NoChampion(KeepfitError, LookupError):
    """The pipeline has no champion to serve."""


class VersionUnknown(KeepfitError, LookupError):
    """The ledger knows no such version, batch or pipeline."""


class GateRefused(KeepfitError, RuntimeError):
    """A person promotes a version that its gate refused."""


class RollbackFailed(KeepfitError, RuntimeError):
    """The version to go back to does not answer as it did when it was trained."""


class TrainingError(KeepfitError, RuntimeError):
    """A training ended without a model."""


class LedgerConflict(KeepfitError, RuntimeError):
    """Another writer appended to the ledger first."""


class LeaseLost(KeepfitError, RuntimeError):
    """Another process holds the loop of this pipeline."""


class AccessDenied(KeepfitError, PermissionError):
    """A server asks for a token, or for one that may do more."""


class TooLarge(KeepfitError, ValueError):
    """A request holds more than a server takes at once."""


class Unreachable(KeepfitError, ConnectionError):
    """A server does not answer, however often it is asked."""


class DiskFull(KeepfitError, OSError):
    """Nothing more can be kept until somebody makes space."""


class ArtifactCorrupt(KeepfitError, OSError):
    """A stored file's content is not what its name says."""


class ExtraMissing(KeepfitError, ImportError):
    """An optional package is not installed."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like a misspelt one, or None."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
