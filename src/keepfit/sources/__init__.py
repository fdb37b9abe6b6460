"""Sources: where rows and labels come from."""

from keepfit.sources.files import Csv, Parquet
from keepfit.sources.folder import Folder
from keepfit.sources.frame import Frame
from keepfit.sources.labels import WithLabels

__all__ = ["Csv", "Folder", "Frame", "Parquet", "WithLabels"]
