"""Requests while a challenger is being rolled out: each row is answered by whom it falls to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from keepfit.server.aftercare import neither
from keepfit.server.batcher import Answers
from keepfit.server.quick import Answer, Row, complete
from keepfit.server.replies import Reply, Send
from keepfit.server.watched import fault

if TYPE_CHECKING:
    from keepfit.server.challenger import Challenger
    from keepfit.server.desk import Desk
    from keepfit.server.models import Serving

Told: TypeAlias = Callable[[list[int | str], list[Answer]], Reply]
Tell: TypeAlias = "Callable[[Serving], Told]"
Mixed: TypeAlias = Callable[[list[int | str], list[Answer], "list[Serving]"], Reply]


class Received(NamedTuple):
    """Rows as they came, in which body, and when, in microseconds since 1970; and their ids.

    ``alone`` says that the body is the one row itself, and not rows.
    """

    rows: Sequence[Row]
    ids: list[int | str]
    body: bytes
    alone: bool
    at: int


class Split:
    """One request, put to the champion and to the challenger.

    Parameters
    ----------
    desk
        Where answers are asked for and written down.
    champion, challenger
        Who may answer.
    tell
        Makes what writes a response in which one version answered all rows.
    mixed
        Writes one in which both did. Without it the champion answers such a request whole.
    """

    def __init__(
        self,
        desk: Desk,
        champion: Serving,
        challenger: Challenger,
        tell: Tell,
        mixed: Mixed | None = None,
    ) -> None:
        self.desk, self.champion, self.challenger = desk, champion, challenger
        self.tell, self.mixed = tell, mixed

    def answer(self, received: Received, send: Send) -> None:
        """Answer rows, write them down with who answered them, and send the response."""
        rows, challenger = received.rows, self.challenger
        for row in rows:
            complete(row, self.champion.answerer.model.features)
        drawn = [challenger.takes(row, id_) for row, id_ in zip(rows, received.ids, strict=True)]
        if not any(drawn) or challenger.ended or (not all(drawn) and self.mixed is None):
            self._by_champion(received, send)
            return
        asked = [row for row, one in zip(rows, drawn, strict=True) if one]

        def theirs(answers: Answers | None) -> None:
            if answers is None or isinstance(answers, Exception) or fault(answers):
                self._by_champion(received, send, answers, len(asked))
            elif all(drawn):
                self.desk.keeping(received, self.tell, send)(answers, challenger.serving)
                if self.champion.aftercare is not None:
                    self.champion.aftercare.pass_by()
            else:
                self._by_both(received, drawn, answers, send)

        challenger.ask(asked, theirs)

    def _by_champion(
        self, received: Received, send: Send, theirs: Answers | None = None, asked: int = 0
    ) -> None:
        """Let the champion answer rows, of which the challenger has failed some that it was asked.

        What the champion then answers was a fault of the challenger's; what fails both is wrong
        itself. For the same reason the challenger gets copies only of what has been answered.
        """
        keep = self.desk.keeping(received, self.tell, send)
        challenger = self.challenger

        def heard(ours: Answers, by: Serving) -> None:
            if isinstance(ours, Exception):
                keep(neither(ours, by, theirs, challenger.serving), by)
                return
            keep(ours, by)
            if theirs is None:
                challenger.copy(received.rows)
            else:
                challenger.blame(asked, theirs)

        self.desk.ask(received.rows, self.champion, heard, send)

    def _by_both(
        self, received: Received, drawn: list[bool], theirs: list[Answer], send: Send
    ) -> None:
        """Let the champion answer the other rows, and put both together."""
        mixed = self.mixed
        assert mixed is not None

        def keep(ours: Answers, by: Serving) -> None:
            if isinstance(ours, Exception):
                self.desk.fail(ours, by.version, send)
                return
            if by.classes != self.champion.classes:  # they do not go together
                self._by_champion(received, send)
                return
            servings = [self.challenger.serving if one else by for one in drawn]
            versions = [one.version for one in servings]
            from_one, from_other = iter(theirs), iter(ours)
            answers = [next(from_one) if one else next(from_other) for one in drawn]
            self.desk.keep(
                received, answers, versions, lambda ids, found: mixed(ids, found, servings), send
            )

        others = [row for row, one in zip(received.rows, drawn, strict=True) if not one]
        self.desk.ask(others, self.champion, keep, send)
