"""What happens to a request, apart from HTTP: answered, written down, and only then told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from keepfit.batch import Roles
from keepfit.errors import KeepfitError, SchemaMismatch
from keepfit.journal import ANSWER, EVENT, ROW, Fate, New, Outcome, Sheet
from keepfit.journal.entries import packed
from keepfit.server import labels
from keepfit.server import rows as sent
from keepfit.server.access import ANYONE, Caller
from keepfit.server.aftercare import Then, told_as
from keepfit.server.batcher import Answers, Batcher
from keepfit.server.counters import Counters
from keepfit.server.events import key
from keepfit.server.forms import Forms, begins_as_rows
from keepfit.server.limits import few
from keepfit.server.quick import AT_ONCE, Answer, Matrix, complete, fits
from keepfit.server.replies import BUSY, NONE, Reply, Send, Wording, answered, refused, said
from keepfit.server.rows import Ids, Row
from keepfit.server.split import Received, Split, Tell, Told
from keepfit.server.values import checked
from keepfit.server.watched import fault

if TYPE_CHECKING:
    from keepfit.journal import Writer
    from keepfit.server.challenger import Challenger
    from keepfit.server.follower import Follower
    from keepfit.server.models import Serving


class Desk:
    """Takes requests of one pipeline; each is told its reply exactly once, after it is on disk.

    All methods are called in the thread of the event loop, and ``send`` is too.
    """

    def __init__(
        self,
        name: str,
        roles: Roles,
        follower: Follower,
        writer: Writer,
        batcher: Batcher,
        counters: Counters | None = None,
    ) -> None:
        self.name, self.roles = name, roles
        self.follower, self.writer, self.batcher = follower, writer, batcher
        self.counters = counters or Counters()
        self.landed: Callable[[Sequence[int | str]], set[int | str]] = lambda ids: set()
        self.kind_landed: Callable[[], str] = lambda: ""
        self._ids = Ids()
        self._worded: tuple[Serving | None, Wording | None] = None, None
        self._forms: dict[bool, tuple[Serving, Forms]] = {}
        self._label_names = frozenset(filter(None, (roles.label, roles.known_at)))

    # Rows ---------------------------------------------------------------------------------

    def predict(self, body: bytes, kind: str, send: Send, caller: Caller = ANYONE) -> None:
        """Answer rows with what serves now."""
        send = self.counters.timed("predict", send)
        try:
            serving = self._serving()
            if begins_as_rows(body) and self._tabled(body, kind, serving, send, caller):
                return
            rows, alone = sent.read(body, kind, self.roles, serving)
            if not caller.may_label and (name := self.labelled(rows)):
                send(label_refused(name))
                return
            kept = b"" if kind.startswith(sent.ARROW) else body
            if alone and serving.answerer.alone:
                self._one(rows[0], body, serving, send)
                return
            if self.follower.challenger is not None:
                split = self._between(serving, self.follower.challenger, alone)
                self.split(rows, split, send, kept, alone=alone)
                return
            if not alone:
                self._learn(rows, serving, caller)
            tell = self._told_alone if alone else self._told_several
            self.answer(rows, serving, tell, send, kept, alone=alone)
        except Exception as error:
            send(refused(error))

    def _one(self, row: Row, body: bytes, serving: Serving, send: Send) -> None:
        """Answer one row at once: what `answer` does, without what only several rows need."""
        if checked((row,), self.roles, serving):
            body = msgspec.json.encode(row)
        id_, challenger = self._id(row), self.follower.challenger
        if challenger is not None and challenger.takes(row, id_):
            received = Received((row,), [id_], body, True, _now())
            self._between(serving, challenger, alone=True).answer(received, send)
            return
        try:
            answer = serving.answerer.one(row)
            scores = _kept(answer)
        except Exception as error:
            received = Received((row,), [id_], body, True, _now())
            self._settle(
                received.rows, serving, error, self.keeping(received, self._told_alone, send)
            )
            return
        entry = New(ANSWER, id_, _now(), serving.version, scores, body)
        reply = Reply(200, self.wording(serving).one(id_, answer))

        def done(outcome: Outcome) -> None:
            send(_unwritten(outcome) if isinstance(outcome, Exception) else reply)

        counters = self.counters
        counters.rows += 1
        counters.answered += 1
        if not self.writer.submit((entry,), done):
            send(BUSY)
        if challenger is not None:
            challenger.copy((row,))

    def labelled(self, rows: Sequence[Row]) -> str | None:
        """Return the column in which one of some rows says something of its label, if one does."""
        for row in rows:
            for name in self._label_names:
                if row.get(name) is not None:
                    return name
        return None

    def _tabled(self, body: bytes, kind: str, serving: Serving, send: Send, caller: Caller) -> bool:
        """Answer rows of a known form at once: what `answer` does; return whether that could be."""
        if kind.startswith(sent.ARROW) or self.follower.challenger is not None:
            return False
        table = self._forms_of(serving, caller).read(body)
        if table is None or not 0 < len(table.values) <= AT_ONCE:
            return False
        received = Received((), self._ids_from(table.ids), table.body, False, _now())
        try:
            answers = cast("Matrix", serving.answerer).tabled(table.values)
        except Exception:
            return False  # it is answered in the other way, which says what is wrong
        if fault(answers):
            return False
        versions = [serving.version] * len(answers)
        self.keep(received, answers, versions, self._telling(serving, alone=False), send)
        return True

    def answer(
        self,
        rows: Sequence[Row],
        serving: Serving,
        tell: Tell,
        send: Send,
        body: bytes = b"",
        *,
        alone: bool = False,
    ) -> None:
        """Answer rows, write them down, and send what is told of ids and answers.

        ``tell`` makes what tells of the answers of a version.
        ``body`` is what they came in, where that was JSON, and ``alone`` that it is one row.

        Raises
        ------
        SchemaMismatch
            A row lacks a column, or has an id or a value that could not land.
        TooLarge
            There are too many.
        """
        if not self._none(rows, tell(serving), send):
            received = self._received(rows, body, alone)
            self.ask(rows, serving, self.keeping(received, tell, send), send)

    def split(
        self,
        rows: Sequence[Row],
        split: Split,
        send: Send,
        body: bytes = b"",
        *,
        alone: bool = False,
    ) -> None:
        """Answer rows of which each falls to the champion or to a challenger.

        Raises
        ------
        SchemaMismatch
            A row lacks a column, or has an id or a value that could not land.
        TooLarge
            There are too many.
        """
        if not self._none(rows, split.tell(split.champion), send):
            split.answer(self._received(rows, body, alone), send)

    def _between(self, serving: Serving, challenger: Challenger, alone: bool) -> Split:
        """Return what answers a request of rows while a challenger is being rolled out."""
        return Split(self, serving, challenger, lambda one: self._telling(one, alone), self._mixed)

    def _mixed(self, ids: list[int | str], answers: list[Answer], servings: list[Serving]) -> Reply:
        """Return a response in which each row names the version that answered it."""
        told = zip(ids, answers, servings, strict=True)
        parts = [Wording(one).one(id_, answer) for id_, answer, one in told]
        return Reply(200, b'{"predictions":[' + b",".join(parts) + b"]}")

    def _none(self, rows: Sequence[Row], told: Told, send: Send) -> bool:
        """Say whether there are no rows, which is told at once.

        Raises
        ------
        TooLarge
            There are too many.
        """
        few(len(rows))
        if not rows:
            send(told([], []))
        return not rows

    def _received(self, rows: Sequence[Row], body: bytes, alone: bool) -> Received:
        """Return rows with their ids; what is kept of them is the body that they came in."""
        if checked(rows, self.roles, self.follower.current):
            body = msgspec.json.encode(rows[0]) if alone else b""
        content = body or msgspec.json.encode(rows)
        return Received(rows, self._ids_of(rows), content, alone, _now())

    def ask(
        self,
        rows: Sequence[Row],
        serving: Serving,
        then: Then,
        send: Send,
    ) -> None:
        """Ask the champion for the answers to rows: at once where it is quick, else in turn.

        ``then`` hears whose they are: where it fails, the version before it answers.
        """
        if serving.answerer.alone and len(rows) <= AT_ONCE:
            try:
                answers: Answers = serving.answerer.many(rows)
            except Exception as error:
                answers = error
            self._settle(rows, serving, answers, then)
            return
        for row in rows:
            if not serving.features <= row.keys():
                complete(row, serving.answerer.model.features)
        care = serving.aftercare
        if care is not None and not serving.answerer.alone:
            taken = care.ask(rows, serving, then)
        else:
            settle = partial(self._settle, rows, serving, then=then)
            taken = self.batcher.submit(serving, rows, settle)
        if not taken:
            send(BUSY)

    def _settle(self, rows: Sequence[Row], serving: Serving, answers: Answers, then: Then) -> None:
        """Tell what the champion answers, or let the version before answer, if there is one."""
        care = serving.aftercare
        if not fault(answers) or isinstance(answers, SchemaMismatch):
            then(answers, serving)
        elif care is not None:
            care.rescue(rows, told_as(answers), serving, then)
        else:
            then(told_as(answers), serving)

    def keeping(self, received: Received, tell: Tell, send: Send) -> Then:
        """Return what writes answers down with the version that gave them, and sends them."""

        def keep(answers: Answers, by: Serving) -> None:
            self.keep(received, answers, [by.version] * len(received.ids), tell(by), send)

        return keep

    def keep(
        self,
        received: Received,
        answers: Answers,
        versions: Sequence[str],
        told: Told,
        send: Send,
    ) -> None:
        """Write answers down with the versions that gave them, and send what is told of them.

        They are errors, or all of them numbers.
        """
        if isinstance(answers, Exception):
            self.fail(answers, versions[0], send)
            return
        try:
            scores = _all_kept(answers)
            reply = told(received.ids, answers)
        except Exception as error:
            send(refused(error))
            return
        self.counters.rows += len(scores)
        self.counters.answered += 1
        ids, at, body = received.ids, received.at, received.body
        if received.alone:
            entry = New(ANSWER, ids[0], at, versions[0], scores[0], body)
            self._write((entry,), lambda fates: reply, send)
        else:
            self._write(Sheet(ids, at, versions, scores, body), lambda fates: reply, send)

    def fail(self, error: Exception, version: str, send: Send) -> None:
        """Tell why rows were not answered; it counts against the version unless it is the rows."""
        if not isinstance(error, SchemaMismatch):
            self.counters.fail(version)
        send(refused(error))

    def take(self, body: bytes, kind: str, send: Send) -> None:
        """Keep rows, with or without their label, that nobody asks a prediction of."""
        send = self.counters.timed("rows", send)
        try:
            serving = self.follower.current
            rows, _ = sent.read(body, kind, self.roles, serving)
            few(len(rows))
            checked(rows, self.roles, serving)
            if serving is not None:
                for row in rows:
                    fits(row, serving.answerer.model)
            ids = [self._id(row) for row in rows]
        except Exception as error:
            send(refused(error))
            return
        at = _now()
        entries = [
            New(ROW, id_, at, None, None, msgspec.json.encode(row))
            for id_, row in zip(ids, rows, strict=True)
        ]
        self._write(entries, lambda fates: answered({"accepted": len(ids), "ids": ids}), send)

    # Labels and events --------------------------------------------------------------------

    def label(self, body: bytes, send: Send) -> None:
        """Keep labels, and say what each was: new, known, a correction, or before its row."""
        send = self.counters.timed("labels", send)
        try:
            found = sent.labels(body)
            few(len(found))
            now = _now()
            serving, ids = self.follower.current, self._kind_of_ids()
            entries = [labels.entry(one, ids, serving, now) for one in found]
        except Exception as error:
            send(refused(error))
            return
        self._write(entries, lambda fates: answered(labels.told(entries, fates, self.landed)), send)

    def event(self, events: Sequence[dict[str, Any]], send: Send) -> None:
        """Keep events, each once by its source and id."""
        send = self.counters.timed("events", send)
        now = _now()
        entries = [
            New(EVENT, key(one), now, None, None, msgspec.json.encode(one)) for one in events
        ]
        self._write(entries, lambda fates: answered(labels.counted(fates)), send)

    # --------------------------------------------------------------------------------------

    def _told_alone(self, serving: Serving) -> Told:
        return self._telling(serving, alone=True)

    def _told_several(self, serving: Serving) -> Told:
        return self._telling(serving, alone=False)

    def _telling(self, serving: Serving, alone: bool) -> Told:
        """Return what writes the response: one object for one, a list for a list."""
        wording = self.wording(serving)
        if alone:
            return lambda ids, answers: Reply(200, wording.one(ids[0], answers[0]))
        return lambda ids, answers: Reply(200, wording.many(ids, answers))

    def wording(self, serving: Serving) -> Wording:
        """Return how the answers of a version are written."""
        if serving is not self.follower.current:
            return Wording(serving)
        if self._worded[0] is not serving or self._worded[1] is None:
            self._worded = serving, Wording(serving)
        assert self._worded[1] is not None
        return self._worded[1]

    def _forms_of(self, serving: Serving, caller: Caller) -> Forms:
        """Return the forms in which rows have come for a version from those who may as much."""
        known = self._forms.get(caller.may_label)
        if known is None or known[0] is not serving:
            if known is not None:
                self._forms.clear()  # of a version that serves no more
            known = self._forms[caller.may_label] = serving, Forms(serving, self.roles)
        return known[1]

    def _learn(self, rows: Sequence[Row], serving: Serving, caller: Caller) -> None:
        """Expect the form of rows from now on, unless it has labels that are to be looked at."""
        if caller.may_label or not any(map(self._label_names.intersection, rows[:1])):
            self._forms_of(serving, caller).learn(rows)

    def serving(self) -> Serving:
        """Return what serves now.

        Raises
        ------
        NoChampion
            Nothing does.
        """
        return self._serving()

    def _serving(self) -> Serving:
        serving = self.follower.current
        if serving is None:
            raise NONE.with_traceback(None)  # each raise would add to that of the one before
        return serving

    def _kind_of_ids(self) -> Ids:
        """Return what makes ids as the lake keeps them: of which kind, the first that landed says."""
        serving = self.follower.current
        kind = self._ids.kind
        if serving is not None:
            kind = serving.ids
        elif not kind:
            kind = self.kind_landed()
        if kind != self._ids.kind:
            self._ids = Ids(kind)
        return self._ids

    def _id(self, row: Row) -> int | str:
        value = row.get(self.roles.id or "")
        ids = self._kind_of_ids()
        return ids.new() if value is None else ids.of(value)

    def _ids_of(self, rows: Sequence[Row]) -> list[int | str]:
        name = self.roles.id or ""
        return self._ids_from([row.get(name) for row in rows])

    def _ids_from(self, given: Sequence[Any]) -> list[int | str]:
        ids = self._kind_of_ids()
        if given.count(None) == len(given):
            return ids.several(len(given))
        return [ids.new() if value is None else ids.of(value) for value in given]

    def _write(
        self, entries: Sequence[New] | Sheet, reply: Callable[[tuple[Fate, ...]], Reply], send: Send
    ) -> None:
        def done(outcome: Outcome) -> None:
            send(_unwritten(outcome) if isinstance(outcome, Exception) else reply(outcome))

        if not entries:
            send(reply(()))
        elif not self.writer.submit(entries, done):
            send(BUSY)


def _kept(answer: Answer) -> float | bytes:
    if isinstance(answer, float):
        if math.isfinite(answer):
            return answer
    elif all(map(math.isfinite, answer)):
        return packed(answer)
    raise told_as([answer])


def _all_kept(answers: Sequence[Answer]) -> Sequence[float | bytes]:
    if any(isinstance(one, tuple) for one in answers[:1]):
        return list(map(packed, cast("Sequence[tuple[float, ...]]", answers)))
    return cast("Sequence[float]", answers)


def label_refused(name: str) -> Reply:
    """Return what is told of a label by a caller whose token is not good for labels."""
    return said(
        403,
        f"expected rows without their label, got one with `{name}`: "
        "the token may predict, and not label",
        f"leave `{name}` out, or send it with a token of the role label: "
        "`keepfit token make NAME --role predict --role label` makes one",
    )


def _now() -> int:
    """Return the moment, in microseconds since 1970 in UTC."""
    return time.time_ns() // 1_000


def _unwritten(error: Exception) -> Reply:
    told = refused(error)
    return Reply(503, told.body, 1) if isinstance(error, KeepfitError) else told
