"""A desk that lets a share of the rows through which would be stopped, and writes down which."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.explore import BY_ITSELF, Draws, Explore, secret_of
from keepfit.journal import ANSWER, PASSAGE, Fate, New, Sheet
from keepfit.server.batcher import Answers
from keepfit.server.desk import Desk
from keepfit.server.quick import Answer, Row
from keepfit.server.replies import Reply, Send, Wording
from keepfit.server.split import Received
from keepfit.server.tensors import Output
from keepfit.server.values import checked

if TYPE_CHECKING:
    from keepfit.batch import Roles
    from keepfit.journal import Writer
    from keepfit.server.batcher import Batcher
    from keepfit.server.follower import Follower
    from keepfit.server.models import Serving

_MEMBERS = b',"pass":%b,"explored":%b,"pass_probability":%b'
_WORDS = {True: b"true", False: b"false"}


class ExploringDesk(Desk):
    """A desk whose answers say whether a row passes, whether by chance, and how probably.

    What chance said of a row is written in the same commit as its answer; of rows that pass by
    themselves nothing is.
    """

    def __init__(
        self,
        name: str,
        roles: Roles,
        follower: Follower,
        writer: Writer,
        batcher: Batcher,
        explore: Explore,
        home: Path,
    ) -> None:
        super().__init__(name, roles, follower, writer, batcher)
        self.draws = Draws(explore, self.name, secret_of(home))
        self._wording: PassageWording | None = None

    def wording(self, serving: Serving) -> Wording:
        """Return how the answers of a version are written."""
        kept = self._wording
        if kept is None or kept.serving is not serving:
            kept = self._wording = PassageWording(serving, self.draws)
        return kept

    def _mixed(self, ids: list[int | str], answers: list[Answer], servings: list[Serving]) -> Reply:
        told = zip(ids, answers, servings, strict=True)
        parts = [self.wording(one).one(id_, answer) for id_, answer, one in told]
        return Reply(200, b'{"predictions":[' + b",".join(parts) + b"]}")

    def _one(self, row: Row, body: bytes, serving: Serving, send: Send) -> None:
        challenger = self.follower.challenger
        if challenger is not None:
            split = self._between(serving, challenger, alone=True)
            self.split((row,), split, send, body, alone=True)
            return
        if checked((row,), self.roles, serving):
            body = msgspec.json.encode(row)
        received = Received((row,), [self._id(row)], body, True, time.time_ns() // 1_000)
        try:
            answers: Answers = [serving.answerer.one(row)]
        except Exception as error:
            answers = error
        self._settle(
            received.rows, serving, answers, self.keeping(received, self._told_alone, send)
        )

    def _write(
        self, entries: Sequence[New] | Sheet, reply: Callable[[tuple[Fate, ...]], Reply], send: Send
    ) -> None:
        super()._write(self._with_passages(entries), reply, send)

    def _with_passages(self, entries: Sequence[New] | Sheet) -> Sequence[New] | Sheet:
        """Return answers with what chance said of their rows."""
        if isinstance(entries, Sheet):
            pairs = zip(entries.ids, entries.scores, strict=True)
            return dataclasses.replace(entries, beside=self._passages(entries.at, pairs))
        answered = [(one.id, one.scores) for one in entries if one.kind == ANSWER]
        return [*entries, *self._passages(entries[0].at, answered)] if answered else entries

    def _passages(self, at: int, answered: Iterable[tuple[int | str, Any]]) -> list[New]:
        found = ((id_, self.draws.of(id_, score)) for id_, score in answered)
        return [
            New(PASSAGE, id_, at, None, one.probability, b"1" if one.passed else b"0")
            for id_, one in found
            if one is not BY_ITSELF
        ]


class PassageWording(Wording):
    """The answers of one version as JSON, with whether each row passes."""

    def __init__(self, serving: Serving, draws: Draws) -> None:
        super().__init__(serving)
        self.serving = serving
        self._draws = draws

    def _rows(self, ids: list[int | str], answers: list[Answer]) -> bytes:
        pairs = zip(ids, answers, strict=True)
        return b"[" + b",".join([b"{%b}" % self._row(*pair) for pair in pairs]) + b"]"

    def _row(self, id_: int | str, answer: Answer) -> bytes:
        passed, explored, probability = self._draws.of(id_, answer)
        members = _WORDS[passed], _WORDS[explored], repr(probability).encode()
        return super()._row(id_, answer) + _MEMBERS % members


def outputs_of(desk: Desk, ids: Sequence[int | str], answers: Sequence[Answer]) -> list[Output]:
    """Return whether rows pass as tensors of the Open Inference Protocol; none where all do."""
    if not isinstance(desk, ExploringDesk):
        return []
    found = [desk.draws.of(id_, answer) for id_, answer in zip(ids, answers, strict=True)]
    shape = [len(found)]
    return [
        Output("pass", "BOOL", shape, [one.passed for one in found]),
        Output("explored", "BOOL", shape, [one.explored for one in found]),
        Output("pass_probability", "FP64", shape, [one.probability for one in found]),
    ]
