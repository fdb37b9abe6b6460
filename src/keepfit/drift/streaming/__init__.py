"""Detectors that follow a stream value by value: River's, through one adapter."""

from __future__ import annotations

from keepfit.drift.streaming.following import Progress
from keepfit.drift.streaming.river import (
    ADWIN,
    DDM,
    EDDM,
    HDDM_A,
    HDDM_W,
    KSWIN,
    PageHinkley,
    Stream,
)

__all__ = [
    "ADWIN",
    "DDM",
    "EDDM",
    "HDDM_A",
    "HDDM_W",
    "KSWIN",
    "PageHinkley",
    "Progress",
    "Stream",
]
