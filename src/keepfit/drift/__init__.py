"""Drift: how far rows have moved from a stored reference."""

from __future__ import annotations

from keepfit.drift.alarmed import Alarms
from keepfit.drift.reference import Reference, compare
from keepfit.drift.report import DriftReport, Measured
from keepfit.drift.univariate import KS, PSI, ChiSquare, Columns, JensenShannon, Wasserstein

__all__ = [
    "KS",
    "PSI",
    "Alarms",
    "ChiSquare",
    "Columns",
    "DriftReport",
    "JensenShannon",
    "Measured",
    "Reference",
    "Wasserstein",
    "compare",
]
