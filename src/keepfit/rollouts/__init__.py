"""Rollouts: how a challenger that passed its gate takes over, one stage after the other."""

from __future__ import annotations

from keepfit.rollouts.assignment import Assignment
from keepfit.rollouts.faults import Faults
from keepfit.rollouts.stages import Canary, Ramp, Shadow, Stage, resolve, told

__all__ = ["Assignment", "Canary", "Faults", "Ramp", "Shadow", "Stage", "resolve", "told"]
