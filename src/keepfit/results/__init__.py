"""What keepfit answers when it is asked: objects that print as sentences and turn into frames."""

from keepfit.results.checked import Checked
from keepfit.results.diff import Diff
from keepfit.results.line import Line
from keepfit.results.log import Log
from keepfit.results.reproduced import Reproduced
from keepfit.results.sentences import Fold, Story, sentence
from keepfit.results.status import Status
from keepfit.results.why import Why

__all__ = [
    "Checked",
    "Diff",
    "Fold",
    "Line",
    "Log",
    "Reproduced",
    "Status",
    "Story",
    "Why",
    "sentence",
]
