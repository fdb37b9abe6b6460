"""LightGBM's function for single rows, called straight from JSON.

``Booster.predict`` checks and copies for 25 µs a row; its C function takes 5 with a prepared
configuration (LightGBM C API, ``LGBM_BoosterPredictForMatSingleRowFast``).
"""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any

from keepfit.server.quick import Answer, Matrix, Row

if TYPE_CHECKING:
    import numpy as np

    from keepfit.learners.lightgbm import BoosterModel

_NORMAL, _FLOAT64 = 0, 1
_SETTINGS = b"num_threads=1 predict_disable_shape_check=true"


class Trees(Matrix):
    """Answers with trees of LightGBM, one row at a time or many, on one thread.

    One thread at a time may ask it: rows are written into one buffer.
    """

    alone = True

    def __init__(self, model: BoosterModel, library: Any) -> None:
        super().__init__(model)
        self._booster = model.booster
        self._several = len(model.classes) if model.task == "multiclass" else 0
        self._row = (ctypes.c_double * self.encoder.width)()
        self._scores = (ctypes.c_double * max(1, self._several))()
        self._length = ctypes.byref(ctypes.c_int64())
        self._config = _configured(library, self._booster, self.encoder.width)
        self._call = library.LGBM_BoosterPredictForMatSingleRowFast
        weakref.finalize(self, library.LGBM_FastConfigFree, self._config)

    def one(self, row: Row) -> Answer:
        """Return the scores of a row."""
        self.encoder.fill(self._row, 0, row)
        if self._call(self._config, self._row, self._length, self._scores):
            return super().one(row)
        if not self._several:
            return self._scores[0]
        return self._shares()

    def _shares(self) -> Answer:
        import numpy as np

        # As the model does, and by the same library: other orders of adding give other bits.
        scores = np.ctypeslib.as_array(self._scores).reshape(1, -1)
        return tuple((scores / scores.sum(axis=1, keepdims=True))[0].tolist())

    def answer(self, table: Any) -> np.ndarray:
        """Return the trees' scores of a matrix."""
        import numpy as np

        scores = np.asarray(self._booster.predict(table, num_threads=1))
        return scores / scores.sum(axis=1, keepdims=True) if self._several else scores


def of(model: BoosterModel) -> Trees | None:
    """Return what answers with trees, or None where this LightGBM has no function for it."""
    library = _library()
    return None if library is None else Trees(model, library)


@cache
def _library() -> Any:
    from lightgbm import basic

    path = getattr(getattr(basic, "_LIB", None), "_name", None)
    if path is None:
        return None
    # A call this short keeps Python's lock: to get it back may take a thousand times as long.
    library = ctypes.PyDLL(path)
    try:
        call = library.LGBM_BoosterPredictForMatSingleRowFast
    except AttributeError:
        return None
    call.argtypes = [ctypes.c_void_p] * 4
    library.LGBM_FastConfigFree.argtypes = [ctypes.c_void_p]
    return library


def _configured(library: Any, booster: Any, width: int) -> ctypes.c_void_p:
    config = ctypes.c_void_p()
    library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle,
        ctypes.c_int(_NORMAL),
        ctypes.c_int(0),
        ctypes.c_int(booster.best_iteration),
        ctypes.c_int(_FLOAT64),
        ctypes.c_int32(width),
        ctypes.c_char_p(_SETTINGS),
        ctypes.byref(config),
    )
    return config
