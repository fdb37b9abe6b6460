"""Rows, labels and predictions, and snapshots of them as of a moment."""

from __future__ import annotations

from keepfit.lake.delta import Delta
from keepfit.lake.door import Lake, Landed
from keepfit.lake.replay import Replay

__all__ = ["Delta", "Lake", "Landed", "Replay"]
