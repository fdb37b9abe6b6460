"""Every built-in gate and metric passes the check that a stranger's must pass."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import make_scorer, median_absolute_error

from keepfit import gates, metrics
from keepfit.facts import Answer, Verdict
from keepfit.testing import check_gate, check_metric

GATES = [
    gates.NoWorse(),
    gates.NoWorse(within=0.02),
    gates.NoWorse(slice="group", within=0.05),
    gates.Beats(),
    gates.Beats(margin=0.01, slice="group"),
    gates.AtLeast(0.5),
    gates.Fresher(),
    gates.StableScores(0.2),
    gates.StableScores(0.1, at=0.5),
    gates.NoForgetting(),
    gates.Approval(),
    gates.FasterThan(0.01),
    gates.FasterThan(times=1.5, rows=100),
    gates.SmallerThan(1_000_000),
    gates.SmallerThan(times=2),
    gates.Loads(),
]
FITTING = [
    (name, task)
    for task in metrics.TASKS
    for name, kind in metrics.NAMES.items()
    if task in getattr(metrics, kind).tasks
]


@pytest.mark.parametrize("gate", GATES, ids=repr)
def test_a_built_in_gate_keeps_the_contract(gate):
    check_gate(gate)


@pytest.mark.parametrize(("name", "task"), FITTING)
def test_a_built_in_metric_keeps_the_contract(name, task):
    check_metric(metrics.get(name, task=task), task)


def test_functions_and_scorers_keep_the_contract():
    check_metric(metrics.get(median_absolute_error, task="regression"), "regression")
    scorer = make_scorer(median_absolute_error, greater_is_better=False)
    check_metric(metrics.get(scorer, task="regression"), "regression")
    check_metric(metrics.get("matthews_corrcoef", task="multiclass"), "multiclass")


def test_the_check_of_gates_finds_one_that_promotes_whatever_comes():
    class Open:
        name = "open"

        def judge(self, comparison):
            return Verdict(gate=self.name, answer=Answer.PROMOTE, reason="always")

    with pytest.raises(AssertionError, match="answers NaN"):
        check_gate(Open())


def test_the_check_of_metrics_finds_a_wrong_direction_and_a_missing_nan():
    backwards = metrics.Function(median_absolute_error, greater_is_better=True)
    with pytest.raises(AssertionError, match="better scores gave"):
        check_metric(backwards, "regression")

    class Deaf(metrics.MAE):
        def value(self, labels, scores):
            return float(np.nan_to_num(np.abs(labels - scores)).mean()) if len(labels) else 0.0

    with pytest.raises(AssertionError, match="no rows should give NaN"):
        check_metric(Deaf(), "regression")
