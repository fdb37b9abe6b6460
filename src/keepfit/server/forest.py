"""LightGBM's library, called without its Python package.

Importing the package brings pandas, scikit-learn and pyarrow where they are installed: 150 MB in
each process, for trees that one shared library reads and answers with (LightGBM C API).
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit.errors import ArtifactCorrupt
from keepfit.server.quick import AT_ONCE

if TYPE_CHECKING:
    import numpy as np

_NORMAL, _FLOAT64, _ROW_MAJOR, _ALL = 0, 1, 1, -1
_SETTINGS = b"num_threads=1 predict_disable_shape_check=true"
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_NEEDED = (
    "LGBM_BoosterLoadModelFromString",
    "LGBM_BoosterPredictForMat",
    "LGBM_BoosterPredictForMatSingleRowFast",
)


class Libraries(NamedTuple):
    """One library, called with Python's lock kept and with the lock given away."""

    keeping: Any
    giving: Any


@cache
def libraries() -> Libraries | None:
    """Return LightGBM's library, or None where it has not the functions to answer with."""
    path = next((one for one in _places() if one.is_file()), None)
    if path is None:
        return None
    found = Libraries(ctypes.PyDLL(str(path)), ctypes.CDLL(str(path)))
    if not all(hasattr(found.keeping, name) for name in _NEEDED):
        return None
    for library in found:
        library.LGBM_GetLastError.restype = ctypes.c_char_p
        library.LGBM_BoosterFree.argtypes = [ctypes.c_void_p]
        library.LGBM_FastConfigFree.argtypes = [ctypes.c_void_p]
        library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [ctypes.c_void_p] * 4
    return found


def _places() -> Iterator[Path]:
    """Yield where the library may lie: the package's folders, or where the package found it."""
    spec = find_spec("lightgbm")
    for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
        for place in (folder / "lib", folder / "bin", folder.parent):
            yield place / f"lib_lightgbm{_SUFFIX}"
    if spec is not None:
        from lightgbm import basic

        yield Path(str(getattr(getattr(basic, "_LIB", None), "_name", "")))


class Forest:
    """Trees that answer on one thread.

    One thread at a time may ask it for a single row: it is written into `row`.

    Parameters
    ----------
    text
        The trees, as LightGBM writes them.
    width
        Columns of a row.

    Raises
    ------
    ArtifactCorrupt
        The text holds no trees.
    """

    def __init__(self, found: Libraries, text: str, width: int) -> None:
        self._libraries, self._width = found, width
        self._handle, rounds, classes = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        library = found.keeping
        self._checked(
            found.giving.LGBM_BoosterLoadModelFromString(
                text.encode(), ctypes.byref(rounds), ctypes.byref(self._handle)
            )
        )
        weakref.finalize(self, library.LGBM_BoosterFree, self._handle)
        self._checked(library.LGBM_BoosterGetNumClasses(self._handle, ctypes.byref(classes)))
        self.classes = classes.value
        self.row = (ctypes.c_double * width)()
        self.scores = (ctypes.c_double * self.classes)()
        self._config = self._configured()
        self._length = ctypes.byref(ctypes.c_int64())
        self._call = library.LGBM_BoosterPredictForMatSingleRowFast

    def one(self) -> bool:
        """Write the scores of what is in `row` into `scores`; return whether that went well.

        The library's function for single rows takes 5 µs where its package takes 25.
        """
        return not self._call(self._config, self.row, self._length, self.scores)

    def many(self, table: np.ndarray) -> np.ndarray:
        """Return the scores of a row-major matrix of float64: (n,), or (n, classes) of several.

        Raises
        ------
        ArtifactCorrupt
            The trees cannot answer it.
        """
        import numpy as np

        table = np.ascontiguousarray(table, dtype=np.float64)
        count = len(table)
        scores = np.empty((count, self.classes) if self.classes > 1 else count)
        library = self._libraries.keeping if count <= AT_ONCE else self._libraries.giving
        self._checked(
            library.LGBM_BoosterPredictForMat(
                self._handle,
                ctypes.c_void_p(table.ctypes.data),
                _FLOAT64,
                ctypes.c_int32(count),
                ctypes.c_int32(self._width),
                _ROW_MAJOR,
                _NORMAL,
                0,
                _ALL,
                _SETTINGS,
                self._length,
                ctypes.c_void_p(scores.ctypes.data),
            )
        )
        return scores

    def _configured(self) -> ctypes.c_void_p:
        config, library = ctypes.c_void_p(), self._libraries.keeping
        self._checked(
            library.LGBM_BoosterPredictForMatSingleRowFastInit(
                self._handle,
                _NORMAL,
                0,
                _ALL,
                _FLOAT64,
                ctypes.c_int32(self._width),
                _SETTINGS,
                ctypes.byref(config),
            )
        )
        weakref.finalize(self, library.LGBM_FastConfigFree, config)
        return config

    def _checked(self, status: int) -> None:
        if status:
            told = self._libraries.keeping.LGBM_GetLastError()
            raise ArtifactCorrupt(f"expected trees that answer, got: {told.decode()}")
