"""Drift of whole rows: what no column shows alone."""

from __future__ import annotations

from keepfit.drift.multivariate.base import Movement
from keepfit.drift.multivariate.classifier import DomainClassifier
from keepfit.drift.multivariate.mmd import MMD
from keepfit.drift.multivariate.pca import PCA

__all__ = ["MMD", "PCA", "DomainClassifier", "Movement"]
