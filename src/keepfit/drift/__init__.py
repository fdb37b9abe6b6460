"""Drift: how far rows have moved from a stored reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit import lazy
from keepfit.drift.alarmed import Alarms
from keepfit.drift.reference import Reference, compare
from keepfit.drift.report import DriftReport, Measured
from keepfit.drift.univariate import KS, PSI, ChiSquare, Columns, JensenShannon, Wasserstein

if TYPE_CHECKING:
    from keepfit.drift.multivariate import MMD, PCA, DomainClassifier, Movement
    from keepfit.drift.streaming import (
        ADWIN,
        DDM,
        EDDM,
        HDDM_A,
        HDDM_W,
        KSWIN,
        PageHinkley,
        Progress,
        Stream,
    )

__all__ = [
    "ADWIN",
    "DDM",
    "EDDM",
    "HDDM_A",
    "HDDM_W",
    "KS",
    "KSWIN",
    "MMD",
    "PCA",
    "PSI",
    "Alarms",
    "ChiSquare",
    "Columns",
    "DomainClassifier",
    "DriftReport",
    "JensenShannon",
    "Measured",
    "Movement",
    "PageHinkley",
    "Progress",
    "Reference",
    "Stream",
    "Wasserstein",
    "compare",
]

# Most pipelines name none of these: they come when first asked for.
_SEVERAL = ("MMD", "PCA", "DomainClassifier", "Movement")
_SERIES = ("ADWIN", "DDM", "EDDM", "HDDM_A", "HDDM_W", "KSWIN", "PageHinkley", "Progress", "Stream")
_HOMES = dict.fromkeys(_SEVERAL, "multivariate") | dict.fromkeys(_SERIES, "streaming")

__getattr__ = lazy.names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
