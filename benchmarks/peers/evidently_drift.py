"""Evidently: the drift preset; it keeps no fitted reference, so each check reads both sides."""

from __future__ import annotations

from typing import Any

from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from peers.harness import Columns, DriftTool, drift


class Preset(DriftTool):
    """The default: the preset chooses a method and a threshold for each column."""

    methods: dict[str, Any] = {}

    def table(self, columns: Columns) -> Dataset:
        definition = DataDefinition(
            numerical_columns=list(columns.numbers), categorical_columns=list(columns.categories)
        )
        return Dataset.from_pandas(super().table(columns), data_definition=definition)

    def check(self, fitted: Dataset, rows: Dataset) -> Any:
        return Report([DataDriftPreset(**self.methods)]).run(rows, fitted)

    def flagged(self, result: Any) -> list[str]:
        drifted = []
        for metric in result.dict()["metrics"]:
            config = metric["config"]
            if config["type"].endswith(":ValueDrift") and _beyond(metric["value"], config):
                drifted.append(config["column"])
        return drifted

    def state(self, fitted: Any) -> int:
        raise NotImplementedError("it keeps the rows")


class PSI(Preset):
    """Only PSI, for every column."""

    methods = {"method": "psi"}


def _beyond(value: float, config: dict[str, Any]) -> bool:
    """Return whether a value is on the drifted side of its threshold."""
    small_is_drift = "p_value" in config["method"]
    return value < config["threshold"] if small_is_drift else value >= config["threshold"]


TOOLS = {"preset": Preset, "psi": PSI}

if __name__ == "__main__":
    drift(TOOLS)
