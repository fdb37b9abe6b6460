"""Alarms at a stated rate: one over all columns, and an anchor that sees slow drift."""

from __future__ import annotations

from keepfit.drift.alarms.alarm import Alarm
from keepfit.drift.alarms.anchor import Anchor, AnchorState
from keepfit.drift.alarms.state import AlarmState

__all__ = ["Alarm", "AlarmState", "Anchor", "AnchorState"]
