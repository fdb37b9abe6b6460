"""Contracts: what a part of your own must do to work in a pipeline, as checks to call in a test."""

from keepfit.testing.checks import check_check
from keepfit.testing.drift import check_detector
from keepfit.testing.gates import check_gate
from keepfit.testing.learners import check_learner
from keepfit.testing.metrics import check_metric
from keepfit.testing.selection import check_selection
from keepfit.testing.sources import check_source
from keepfit.testing.triggers import check_trigger

__all__ = [
    "check_check",
    "check_detector",
    "check_gate",
    "check_learner",
    "check_metric",
    "check_selection",
    "check_source",
    "check_trigger",
]
