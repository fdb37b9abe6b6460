"""Drift: how far rows have moved from a stored reference."""

from __future__ import annotations

from keepfit.drift.alarmed import Alarms
from keepfit.drift.multivariate import MMD, PCA, DomainClassifier, Movement
from keepfit.drift.reference import Reference, compare
from keepfit.drift.report import DriftReport, Measured
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
from keepfit.drift.univariate import KS, PSI, ChiSquare, Columns, JensenShannon, Wasserstein

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
