"""Trees of LightGBM, asked straight from JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit.server.forest import Forest, Libraries, libraries
from keepfit.server.quick import Answer, Matrix, Row

if TYPE_CHECKING:
    import numpy as np

    from keepfit.learners.lightgbm import BoosterModel


class Trees(Matrix):
    """Answers with trees of LightGBM, one row at a time or many, on one thread.

    One thread at a time may ask it: rows are written into one buffer.

    Raises
    ------
    ArtifactCorrupt
        The model's text holds no trees.
    """

    alone = True

    def __init__(self, model: BoosterModel, found: Libraries) -> None:
        super().__init__(model)
        self._forest = Forest(found, model.text, self.encoder.width)
        self._row, self._scores = self._forest.row, self._forest.scores
        self._one = self._forest.one
        self._several = model.task == "multiclass"

    def one(self, row: Row) -> Answer:
        """Return the scores of a row."""
        self.encoder.fill(self._row, 0, row)
        if not self._one():
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
        scores = self._forest.many(table)
        return scores / scores.sum(axis=1, keepdims=True) if self._several else scores


def of(model: BoosterModel) -> Trees | None:
    """Return what answers with trees, or None where this LightGBM has no function for it."""
    found = libraries()
    return None if found is None else Trees(model, found)
