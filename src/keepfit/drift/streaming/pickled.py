"""A detector of River's as bytes that can be opened safely."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

from keepfit.errors import ArtifactCorrupt

_OWN = ("river.drift.", "river.stats.", "river._river_rust.")


def dumps(detector: Any) -> bytes:
    """Return a detector as bytes."""
    # Not keepfit.pickles, whose bytes hold more kinds of things than need be let in again.
    return pickle.dumps(detector, protocol=5)


def loads(content: bytes) -> Any:
    """Return the detector that bytes hold, which may come from anywhere.

    Raises
    ------
    ArtifactCorrupt
        They hold what no detector consists of, or were written by another version of River.
    """
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except ArtifactCorrupt:
        raise
    except Exception as error:  # what a torn pickle raises depends on where it is torn
        raise ArtifactCorrupt(
            f"expected the state of a detector of this version of River: {error}",
            hint="begin anew: advance(None, values)",
        ) from None


class _Unpickler(pickle.Unpickler):
    """Opens what River's detectors consist of, and nothing that could do anything else."""

    _plain: ClassVar = {
        ("collections", "deque"),
        ("random", "Random"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of River's, or one of a few plain ones."""
        if (module, name) == ("builtins", "getattr"):
            return _method_of
        own = module.startswith(_OWN) and not module.startswith("river.drift.datasets")
        if "." not in name and (own or (module, name) in self._plain):
            found = super().find_class(module, name)
            # A module of River's also holds what it imports: that is not River's.
            if not own or (isinstance(found, type) and found.__module__.startswith("river.")):
                return found
        raise ArtifactCorrupt(
            f"expected the state of a detector of River's, got one that holds {module}.{name}",
            hint="it was not written by keepfit, and is not opened",
        )


def _method_of(detector: Any, name: str) -> Any:
    """Return a detector's own test, by which PageHinkley remembers the side it looks at."""
    if type(detector).__module__.startswith("river.drift.") and name.startswith("_test_"):
        return getattr(detector, name)
    raise ArtifactCorrupt(f"expected a test of a detector of River's, got {name!r}")
