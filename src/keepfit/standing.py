"""Which recipes a turn of training runs: what they cost, what they won, how long they rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from keepfit import waiting
from keepfit.batch import TIME, border
from keepfit.beside import ALIKE, Beside
from keepfit.plan import Why
from keepfit.registry import Recipe, State, Version
from keepfit.registry.versions import TRIED

if TYPE_CHECKING:
    import polars as pl

    from keepfit.challenger import Challenger

LONGEST_BACK_OFF = 16
"""Batches for which a recipe is left out at most, after failing again and again."""

NEW = 0.25
"""The share of new rows among its own at which a recipe is trained again, where a cheap one
learns between; so each row is trained on about four times, however long the window."""

SOON, PAYS, IDLES = 0.4, 2.0, 4.0
"""How many times as many rows are to be new, once it is known how trainings do beside updates: where
they plainly do better, where they do, and where they do not, so that no row is trained on twice."""

NEW_ALONE = 0.1
"""The same share where no cheap recipe learns between, or what it learns does harm."""

OUTGROWN = 2.0
"""Times as many rows as it was trained on last with which a window that sees more than the leader is
tried again, where more rows have done better than fewer, with a leader that waits no longer than while
nothing is known. Where nothing changes they do for ever, and all these tries cost no more than two
trainings on all rows."""

DOUBLED = 0.5
"""The share of new rows when there are twice as many: asked for at most where the leader's window
only grows since a change, as few rows are soon a small part of it."""

LONGEST = 10
"""Batches in which the champion is updated before the leader is trained again, however long its
window: updates remember the newest batches alone. Longer, as with the share of new rows."""

BETTER, PLAINLY = 1.0, 3.0
"""Standard errors by which a recipe must have done better than the leader to take its place, and
the leader's trainings better than updates to be held to pay, and to do so plainly.

Few, because it costs nothing to follow the better record, and much to wait for proof. One that
sees fewer rows is asked for `WORSE`: by luck a short window does well for some batches, and on a
stream that stays as it is it loses for good."""

WORSE = 2.0
"""Standard errors by which updates of the champion, or a recipe that is tried, must have done
worse to be left out."""

GLANCE, QUIET = 4, 0.5
"""Batches after which the window of one step is looked at again at the soonest, while it does as well
as others, and the share of those since a change after which it is at the latest."""

SPAN = 16
"""Batches after a change for which a leader is preferred no more, while it learns rows of before."""


class Standings:
    """What the facts so far say of each recipe.

    A recipe with ``every=None`` runs when its evidence says so. One of them leads: the first the
    pipeline names, that history shows to do better (`First`), or that came to serve by its gate, until
    another does better. Recipes that start from the champion run in every turn, unless that has done
    worse than leaving it alone; where new rows are few beside the leader's, no worse answered than
    others lately, and the last update gained little, with the next.

    The leader is trained again once a quarter of its rows is new. What its trainings gave is then seen on the
    batches that follow, beside the champion before it, updated with the same rows. Where they did better, it waits
    until half of its rows are new, where they plainly did a tenth; where they did not, until all are, and the
    holdout decides between it and the update. Few rows are no proof of that: of them it takes that they show
    trainings to do no better at all. Nor does it wait longer while the newest of small batches are answered
    worse than those before. One that leads because it did better than what serves is trained with the next.

    When what serves does far worse on a batch than it did before, something has changed (`Level`).
    Until it does as well again each window is trained as soon as a tenth of its own rows is new,
    and the one that does best on the holdout is promoted, whichever led; for some batches more
    where the leader still learns rows from before it. What recipes reached before the change counts
    no more, and what serves leads until another does better.

    The window of a single step joins whatever runs: with every turn at first and while it does better than
    the leader or the updates, more seldom the longer nothing changes while it does as well, no more once it
    does worse. Where it serves it runs with the next batch, whatever else does. It leads by what it reached
    on the batches next to it; then the other windows are looked at as often as their rows change.

    The others are tried beside it in its 2nd, 3rd, 4th, 8th, 16th, … training, those of fewer rows more
    often, of more less, so that trying costs less the longer it brought nothing; not with nearly the
    leader's rows. One that was shown to do worse is tried in the 4th, 16th and each 64th alone. What was
    tried long ago, or beside another leader, counts as not tried. After an alarm all are. In all they
    cost no more rows than what came to serve, and two trainings of the leader, but for a fall. Where the
    leader does better than a window of fewer rows, one of more runs beside it once its rows have doubled.

    Parameters
    ----------
    state
        The facts so far, folded.
    challengers
        The pipeline's recipes, the one that leads without evidence before the others.
    greater_is_better
        The direction of the metric.
    enough
        Rows below which a window is not tried where the leader's has as many; after a change,
        where the holdout decides, half of them.
    """

    def __init__(
        self,
        state: State,
        challengers: Sequence[Challenger],
        *,
        greater_is_better: bool = True,
        enough: int = 1,
    ) -> None:
        self.state = state
        self.challengers = challengers
        self.enough = enough
        self.sign = 1.0 if greater_is_better else -1.0
        self.level = state.level if greater_is_better else state.losses
        since = [one for one in state.compared if one.batch >= self.level.batch]
        free = [one for one in self.worked() if one.every is None]
        self.windows = [one for one in free if one.start == "scratch"]
        brief = {one.name for one in self.windows if one.brief}
        self.beside = Beside(since, self.sign, brief=brief)

    # Which recipes run ------------------------------------------------------------------

    def runnable(self) -> list[Challenger]:
        """Return the recipes that may run now: without a champion, those that start without one."""
        if self.state.champion is None:
            return self._first()
        if self.state.versions[self.state.champion].origin is not None:
            # Nothing here goes on from a model that was trained elsewhere; its scores can be mapped.
            return [one for one in self.worked() if not one.updates]
        return self.worked()

    def worked(self) -> list[Challenger]:
        """Return the recipes but for those of all rows by another name, as nothing has changed yet."""
        if self.level.since is not None:
            return list(self.challengers)
        known = [(one.way, one.select) for one in self.challengers]
        windows = (one for one in self.challengers if one.every is None)
        same = [one for one in windows if (one.way, one.whole) in known]
        return [one for one in self.challengers if one not in same]

    def _first(self) -> list[Challenger]:
        """Return the recipes of which one makes the first champion; all of them, where all rest.

        One that failed lets those run that did not: a donor may never come.
        """
        transfers = [one for one in self.worked() if one.start == "transfer"]
        others = [one for one in self.worked() if one.start == "scratch"]
        if not others:
            going_on = [one for one in self.challengers if one.start != "transfer"]
            others = [one for one in going_on if one.update != "calibration"][-1:]
        every = [*transfers, *others]
        failures = {
            one.name: self._record(one).failures
            for one in every
            if self.rests_until(one) <= self.state.batch
        }
        fewest = min(failures.values(), default=0)
        # Another pipeline's model is the better start where rows are still few.
        for kind in (transfers, others):
            found = [one for one in kind if failures.get(one.name) == fewest]
            if found:
                return found
        return every

    def held(self, rows: Mapping[str, pl.DataFrame], why: Why) -> dict[str, str]:
        """Return why each recipe does not run now, ``""`` where it does; ``rows`` it would learn from."""
        runnable = self.runnable()
        held = {one.name: self._held(one) for one in runnable}
        leader = self.leader()
        if self.state.champion is not None and leader is not None:
            early = self._early(leader, rows) if why == Why.STEP else ""
            early = "" if self.level.below else early
            # Of one step it is of use for the step after it: there it is trained again.
            served = self._served()
            free = [one for one in runnable if one.every is None and not held[one.name]]
            for one in free:
                own = rows[one.name]
                if one.brief and one.name == served:
                    said = self._small(one, leader, rows) or waiting.alike(own)
                elif one.start == "scratch":
                    said = early or self._untried(one, leader, rows, why) or waiting.alike(own)
                else:
                    said = self._harm(one, leader)
                    said = said or (waiting.alike(own) if one.update == "leaves" else "")
                    if early and one.updates and not said:
                        said = waiting.few(
                            self.state, self.sign, own.height, rows[leader.name].height
                        )
                held[one.name] = said
            for one in free if not all(held.values()) else ():
                if one.brief and held[one.name] and self._open(one, leader):
                    held[one.name] = self._small(one, leader, rows) or waiting.alike(rows[one.name])
        asked = runnable if why > Why.STEP else [one for one in runnable if one.every is not None]
        if asked and all(held.values()):
            # A turn is asked for and nothing else would run: then what has waited longest.
            held[min(asked, key=self._rest).name] = ""
        return held

    def _rest(self, challenger: Challenger) -> tuple[bool, int]:
        return self.rests_until(challenger) > self.state.batch, self.waits(challenger)

    def _held(self, challenger: Challenger) -> str:
        """Return why a recipe cannot run in this turn: it rests after failures, or waits for its turn."""
        until = self.rests_until(challenger)
        if until > self.state.batch:
            return f"failed, and rests until batch {until}"
        return f"runs every {challenger.every} turns" if self.waits(challenger) > 0 else ""

    def _early(self, leader: Challenger, rows: Mapping[str, pl.DataFrame]) -> str:
        """Return why the leader waits still, if it does: too few of its rows are new."""
        if self._outdid(leader):
            return ""
        own = rows[leader.name]
        share, wanted = self._new(leader, own), self._wanted(leader)
        if self._grows(leader, own) or leader.brief:
            wanted = min(wanted, DOUBLED)
        # What one of more rows reached says nothing by itself: it is tried side by side.
        outgrown = any(self._outgrown(one, leader, rows) for one in self.windows)
        if outgrown or waiting.worse(self.state, self.sign):
            wanted = min(wanted, NEW)
        if share >= wanted or self._age(leader) >= LONGEST * max(1.0, wanted / NEW):
            return ""
        return waiting.told(share, wanted, f"the rows of {leader.name}")

    def _outdid(self, leader: Challenger) -> bool:
        """Return whether a leader did better than the window of what serves, and does not serve yet."""
        version = self.state.root(self.state.versions.get(self.state.champion or ""))
        served = (one for one in self.windows if version and one.name == version.challenger)
        return any(one is not leader and self._outdoes(leader, one) for one in served)

    def _grows(self, leader: Challenger, rows: pl.DataFrame) -> bool:
        """Return whether a leader's rows are all of since a change, and none has left them."""
        since, last = self.level.since, self._last(leader)
        if since is None or last is None or last.snapshot.from_ < since:
            return False
        return rows.height > ALIKE * last.snapshot.rows

    def _untried(
        self, one: Challenger, leader: Challenger, rows: Mapping[str, pl.DataFrame], why: Why
    ) -> str:
        """Return why a window is not trained with the leader, if so."""
        own, others = rows[one.name].height, rows[leader.name].height
        small = self._small(one, leader, rows)
        if small:
            return small
        if self.level.below:
            share = self._new(one, rows[one.name])
            seen = f"{waiting.told(share, NEW_ALONE)} after a change"
            return seen if share < NEW_ALONE and why == Why.STEP else ""
        if one is leader or why == Why.ALARM:
            return ""
        gain = self._gain(leader.name, one.name)
        worse = gain is not None and gain > WORSE
        if leader.brief:
            # What one step shows of others is soon past: they are looked at as often as they change.
            share, wanted = self._new(one, rows[one.name]), 1.0 if worse else NEW
            said = waiting.told(share, wanted)
            return said if share < wanted else ""
        if self._outgrown(one, leader, rows):
            return ""
        if self._spent and why == Why.STEP:
            return "what never served has cost as many rows as what did; tried again later"
        led, tries = self._tries(one, leader, rows[one.name])
        # What a try costs are its rows: on half the leader's it counts half, on four times as many twice.
        part = own / max(others, 1)
        if led + 1 < _next(int(tries * min(part, math.sqrt(part)))):
            return f"{leader.name} leads; tried again later"
        if one.way == leader.way and max(own, others) < ALIKE * min(own, others):
            return f"its rows are nearly those of {leader.name}"
        if not worse or _seldom(led + 1) or (led >= TRIED and not tries):
            return ""
        return f"{leader.name} did better, by {gain:.1f} standard errors; tried again later"

    def _outgrown(
        self, one: Challenger, leader: Challenger, rows: Mapping[str, pl.DataFrame]
    ) -> bool:
        """Return whether a window of more rows is due, as it has twice what it was trained on last."""
        own, others, last = rows[one.name].height, rows[leader.name].height, self._last(one)
        before = others if last is None else last.snapshot.rows
        if own <= ALIKE * others or own < OUTGROWN * before:
            return False
        if (self._gain(leader.name, one.name) or 0.0) > WORSE:
            return False
        shorter = (window.name for window in self.windows if rows[window.name].height < others)
        return any((self._gain(leader.name, name) or 0.0) > BETTER for name in shorter)

    def _tries(self, one: Challenger, leader: Challenger, rows: pl.DataFrame) -> tuple[int, int]:
        """Return how often the leader ran lately, and how often a window beside it.

        Where its rows are all of since a change, what was before that does not count.
        """
        since = self.level.since
        first = 0 if since is None or rows[TIME][0] < since else self.level.batch
        led, own = ({*self._record(recipe).tried} for recipe in (leader, one))
        counted = [batch for batch in led if batch >= first]
        return len(counted), len(own.intersection(counted))

    def _small(self, one: Challenger, leader: Challenger, rows: Mapping[str, pl.DataFrame]) -> str:
        """Return that a window has too few rows to learn from, if so, where the leader's has more."""
        own, others = rows[one.name].height, rows[leader.name].height
        enough = self.enough // 2 if self.level.below else self.enough
        # The holdout, which a last fit learns too, is not among them.
        return f"{own:,} rows, {enough:,} asked for" if ALIKE * own < min(enough, others) else ""

    def _open(self, brief: Challenger, leader: Challenger) -> bool:
        """Return whether a window of one step may do better yet, and is looked at: it costs little."""
        known = self._gain(brief.name, leader.name), self._gain(brief.name)
        gains = [gain for gain in known if gain is not None]
        if any(gain < -WORSE for gain in gains):
            return False
        if self._spent or not gains or max(gains) > BETTER:
            return not self._spent
        first = min(one.snapshot.batch for one in self.state.versions.values())
        quiet = self.state.batch - max(first, self.level.batch)
        return self._age(brief) >= max(GLANCE, QUIET * quiet)

    @cached_property
    def _spent(self) -> bool:
        leader = self.leader()
        last = self._last(leader) if leader else None
        return waiting.spent(self.state, last, fell=self.level.batch if self.level.since else None)

    def _harm(self, update: Challenger, leader: Challenger) -> str:
        """Return how much worse updates of the champion have done than leaving it alone, if they did."""
        gain = self._gain(leader.name, update.name)
        if gain is None or gain <= WORSE:
            return ""
        return f"{leader.name} did better without it, by {gain:.1f} standard errors"

    def _age(self, challenger: Challenger) -> int:
        """Return the batches since those that a recipe was trained on."""
        last = self._last(challenger)
        return 0 if last is None else self.state.batch - last.snapshot.batch

    def _wanted(self, leader: Challenger) -> float:
        """Return the share of new rows at which the leader is trained again."""
        updates = [one for one in self.runnable() if one.start == "champion"]
        if all(self._harm(one, leader) for one in updates):
            return NEW_ALONE
        return NEW * self._patience(leader)

    def _patience(self, leader: Challenger) -> float:
        """Return how many times as many new rows the leader waits for as while nothing is known."""
        found = None if self.level.below else self.beside.trained(leader.name)
        if found is None:
            # What plainly paid before a change does after it, where more is new.
            before = Beside(self.state.compared, self.sign).trained(leader.name)
            return SOON if before is not None and before.gain > PLAINLY else 1.0
        if found.gain > PLAINLY:
            return SOON
        # Few rows show no gain that is there: of them it is enough that they show none against it.
        return PAYS if found.gain > (BETTER if found.telling else 0.0) else IDLES

    def _new(self, challenger: Challenger, rows: pl.DataFrame) -> float:
        """Return the share of a recipe's rows that are newer than those it was trained on last."""
        last = self._last(challenger)
        if last is None or rows.is_empty():
            return 1.0
        known = border(rows.get_column(TIME), last.snapshot.to, "right")
        return (rows.height - known) / rows.height

    def _last(self, challenger: Challenger) -> Version | None:
        return self.state.versions.get(self._record(challenger).last)

    def _record(self, challenger: Challenger) -> Recipe:
        return self.state.recipes.get(challenger.name, Recipe())

    def waits(self, challenger: Challenger) -> int:
        """Return for how many turns a recipe still waits, after the one it ran in."""
        last = self._last(challenger)
        if last is None or challenger.every is None:
            return 0
        return last.turn + challenger.every - (self.state.turn + 1)

    # Failures ---------------------------------------------------------------------------

    def rest(self) -> str:
        """Return why nothing can be trained just now: every recipe failed, and rests; else ``""``."""
        moments = [self.rests_until(challenger) for challenger in self.runnable()]
        if min(moments, default=0) <= self.state.batch:
            return ""
        return f"every recipe failed again and again; the next try is with batch {min(moments)}"

    def rests_until(self, challenger: Challenger) -> int:
        """Return the batch from which a recipe may run: each failure in a row doubles its rest."""
        last, failures = self._last(challenger), self._record(challenger).failures
        if last is None or not failures:
            return 0
        # A power of two beyond the longest rest may be beyond all numbers.
        rest: int = min(2 ** min(failures - 1, 10), LONGEST_BACK_OFF)
        return last.snapshot.batch + rest

    # Evidence ---------------------------------------------------------------------------

    def leader(self) -> Challenger | None:
        """Return the recipe from scratch that has done best; before all are known that of `_heir`."""
        able = [one for one in self.windows if self.rests_until(one) <= self.state.batch]
        leader = self._heir(able)
        rivals = [one for one in able if one is not leader]
        # Who did not outdo the one before may outdo this one, beside which it was tried more often.
        while leader and (better := next((r for r in rivals if self._outdoes(r, leader)), None)):
            rivals.remove(better)
            leader = better
        return leader

    def _outdoes(self, one: Challenger, leader: Challenger) -> bool:
        """Return whether a recipe has done so much better than the leader that it leads."""
        found = [self._gain(one.name, leader.name)]
        # Better than updates is enough where the leader would not take its place back.
        if one.brief and -(found[0] or 0.0) <= self._asked(leader, one):
            found.append(self._gain(one.name))
        return any(gain is not None and gain > self._asked(one, leader) for gain in found)

    def _asked(self, one: Challenger, leader: Challenger) -> float:
        """Return by how much a recipe must have done better to lead: by more where it sees less."""
        mine, others = self._last(one), self._last(leader)
        fewer = mine and others and mine.snapshot.rows < others.snapshot.rows
        return WORSE if fewer else BETTER

    def _served(self) -> str:
        """Return the recipe of which the champion is as it was trained, but for its last fit."""
        champion = self.state.versions[self.state.champion or ""]
        return self.state.versions.get(champion.final_of or champion.name, champion).challenger

    def _heir(self, able: Sequence[Challenger]) -> Challenger | None:
        """Return who leads without evidence: the first named; after a change who made what serves.

        Also where history held one, before anything served; and where it came to serve by its gate:
        what it did better by may be forgotten or evened out, and nothing better takes its place yet.
        """
        version = self.state.root(self.state.versions.get(self.state.champion or ""))
        since, outset = self.level.since, self.state.outset
        named = (one for one in able if since is None and one.name == outset)
        first = next(named, able[0] if able else None)
        if version is None:
            return first
        won = self.state.versions.get(version.final_of or "", version).judged is not None
        keeps = (won or outset) if since is None else version.snapshot.to >= since
        made = (one for one in able if one.name == version.challenger and not one.brief)
        return next(made, first) if keeps else first

    def preferred(self) -> set[str]:
        """Return the recipes of which one is promoted where it passes, whatever others reach.

        The leader; and updates beside it where its trainings did no better than they, so that
        the holdout decides between the two.
        """
        leader = self.leader()
        if leader is None or self.level.below or self._across(leader):
            return set()
        equal = self._patience(leader) == IDLES
        return {leader.name} | {one.name for one in self.challengers if equal and one.updates}

    def _across(self, leader: Challenger) -> bool:
        """Return whether something changed lately, and a leader was trained on rows from before it."""
        since, last = self.level.since, self._last(leader)
        if since is None or last is None or self.state.batch >= self.level.batch + SPAN:
            return False
        return last.snapshot.from_ < since

    def ungated(self, waiting: Sequence[Version]) -> Version:
        """Return which of those that wait for no gate is promoted: the leader's, or the dearest."""
        leader = self.leader()
        found = (one for one in waiting if leader and one.challenger == leader.name)
        # One step alone has shown nothing yet.
        others = [one for one in waiting if one.challenger not in self.beside.brief]
        return next(found, [*waiting, *others][-1])

    def proven(self, name: str, other: str) -> bool:
        """Return whether a recipe did better than another, as things are now, and not in one turn alone."""
        gain = None if self.level.below else self._gain(name, other)
        return gain is not None and gain > 0 and len(self.beside.turns(name, other)) > 1

    def _gain(self, name: str, other: str | None = None) -> float | None:
        return self.beside.gain(name, other)


def _next(tries: int) -> int:
    """Return in which training of the leader one is tried that was tried so often: 2, 3, 4, 8, 16."""
    return tries + 2 if tries < 3 else 2 ** min(tries, 60)


def _seldom(training: int) -> bool:
    """Return whether those are tried that did worse: in the 4th, 16th and 64th."""
    return training in (4, 16, 64)
