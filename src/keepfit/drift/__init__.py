"""Drift: how far rows have moved from a stored reference."""

from __future__ import annotations

from keepfit.drift.univariate import KS, Columns, JensenShannon

__all__ = ["KS", "Columns", "JensenShannon"]
