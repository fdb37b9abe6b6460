"""Alerts: what people are told who do not look, through Apprise, once for each cause."""

from __future__ import annotations

from keepfit.alerts.kinds import KINDS, Kind, Message
from keepfit.alerts.settings import Settings, Target, settings_of
from keepfit.alerts.teller import Teller, tell, telling

__all__ = [
    "KINDS",
    "Kind",
    "Message",
    "Settings",
    "Target",
    "Teller",
    "settings_of",
    "tell",
    "telling",
]
