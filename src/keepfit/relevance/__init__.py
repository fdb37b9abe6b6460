"""Relevance: what new rows mean to a model, batch by batch and row by row.

`assess` says of a batch whether the champion should learn from it. `row_relevance` gives
each labelled row a number by which `selection.Relevant` thins a training.
"""

from __future__ import annotations

from keepfit.relevance.memory import KEPT, RowMemory, Told
from keepfit.relevance.rows import Weighing, relevance_of, row_relevance, weigh
from keepfit.relevance.usual import Usual
from keepfit.relevance.verdict import Change, Known, assess

__all__ = [
    "KEPT",
    "Change",
    "Known",
    "RowMemory",
    "Told",
    "Usual",
    "Weighing",
    "assess",
    "relevance_of",
    "row_relevance",
    "weigh",
]
