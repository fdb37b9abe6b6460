"""Estimates of performance while labels are missing, from scores and rows alone.

A method is fitted once on rows whose labels are known, the reference, which the model was not
trained on. What comes out is small, can be stored, and estimates a metric for any later batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit import lazy

if TYPE_CHECKING:
    from keepfit.estimates.cbpe import CBPE, Calibrated
    from keepfit.estimates.dle import DLE, LossModel
    from keepfit.estimates.estimate import Estimate
    from keepfit.estimates.trust import Trust
    from keepfit.estimates.weighted import Reweighted, Weighted

__all__ = [
    "CBPE",
    "DLE",
    "Calibrated",
    "Estimate",
    "LossModel",
    "Reweighted",
    "Trust",
    "Weighted",
]

# The classes need NumPy, which `import keepfit` must not load: they come when first asked for.
_HOMES = {
    "CBPE": "cbpe",
    "Calibrated": "cbpe",
    "DLE": "dle",
    "LossModel": "dle",
    "Estimate": "estimate",
    "Trust": "trust",
    "Reweighted": "weighted",
    "Weighted": "weighted",
}

__getattr__ = lazy.names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
