"""The mirror: each version as one of MLflow's, and who is champion as its aliases."""

from __future__ import annotations

from keepfit.mirror.follower import Done, Mirror, mirroring, opened
from keepfit.mirror.settings import Settings, settings_of

__all__ = ["Done", "Mirror", "Settings", "mirroring", "opened", "settings_of"]
