"""The human hand: what a person may do to a pipeline, each with a reason that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from keepfit import facts, registry
from keepfit.errors import ConfigError, LedgerConflict, RollbackFailed, VersionUnknown
from keepfit.release import verified
from keepfit.tokens import user
from keepfit.training import described

if TYPE_CHECKING:
    from keepfit.loop import Loop, Step
    from keepfit.registry import Rollout

Said = TypeVar("Said", bound=facts.Fact)

ATTEMPTS = 20
"""How often a word is written anew, where the loop wrote something meanwhile."""


class Hand:
    """A person's hand on a loop, with the reason that is kept, and who gave it."""

    def __init__(self, loop: Loop, reason: str, by: str | None = None) -> None:
        if not reason or not reason.strip():
            raise ConfigError(
                "expected a reason, got nothing",
                hint='say why in a few words: reason="bad week in the feed"',
            )
        self.loop = loop
        self.reason = reason.strip()
        self.by = by or user()

    def promote(self, version: str, *, force: bool) -> None:
        """Make a version the champion because a person says so."""

        def word() -> facts.Promoted:
            state = self.loop.refold()
            found = registry.promotable(state, version, force=force)
            self.loop.scorer.model(found)
            return facts.Promoted(
                version=found.name,
                reason=self.reason,
                previous=state.champion,
                by=self.by,
                forced=registry.held_back(found),
                reference=described(self.loop, found),
            )

        self._say(word)

    def rollback(self) -> str:
        """Take back what was released last, and return the name of the version that serves.

        While a challenger is being rolled out that is what is taken back. Otherwise the previous
        champion is champion again, once it has answered stored rows as it did.
        """

        def word() -> facts.RolledBack:
            state = self.loop.refold()
            if state.rollout is not None:
                return self._ended(state.rollout)
            if state.champion is None or state.previous is None:
                raise RollbackFailed(
                    f"{self.loop.pipeline.name!r} has no previous version to go back to",
                    hint="`keepfit promote VERSION --reason …` makes any earlier version champion",
                )
            target = state.versions[state.previous]
            return facts.RolledBack(
                version=state.champion,
                to=target.name,
                reason=self.reason,
                by=self.by,
                rows=verified(self.loop, target),
            )

        return self._say(word).to

    def _ended(self, rollout: Rollout) -> facts.RolledBack:
        fact = rollout.fact
        return facts.RolledBack(
            version=fact.version,
            to=fact.champion,
            reason=self.reason,
            by=self.by,
            share=fact.share,
        )

    def approve(self, version: str) -> None:
        """Let a version go on that waits for a person, with the loop's next step."""
        self._answer(version, facts.Approved)

    def refuse(self, version: str) -> None:
        """Refuse a version that waits for a person, with the loop's next step."""
        self._answer(version, facts.Declined)

    def _answer(self, version: str, kind: type[facts.Approved | facts.Declined]) -> None:
        """Write what a person says of a version that waits: it may have been replaced meanwhile."""

        def word() -> facts.Approved | facts.Declined:
            found = registry.answerable(self.loop.refold(), version, self.loop.clock.now())
            return kind(version=found.name, reason=self.reason, by=self.by)

        self._say(word)

    def _say(self, word: Callable[[], Said]) -> Said:
        """Write a person's word and return it, also while the loop is at work.

        Nobody waits for a training to take back what does harm. The word holds only if nothing
        was written since it was formed; else it is formed anew, from how things stand then.

        Raises
        ------
        LedgerConflict
            Others kept writing.
        """
        for _ in range(ATTEMPTS):
            said = word()
            if self.loop.append_decision([said], self.loop.clock.now()):
                return said
        raise LedgerConflict(
            f"another process kept writing to the ledger of {self.loop.pipeline.name!r}",
            hint="say it again: nothing was written",
        )

    def pause(self) -> None:
        """Record a pause."""
        self.loop.append([facts.Paused(reason=self.reason, by=self.by)], self.loop.clock.now())

    def resume(self) -> None:
        """Record the end of a pause."""
        self.loop.append([facts.Resumed(reason=self.reason, by=self.by)], self.loop.clock.now())

    def accept(self, batch: int | None, *, schema: bool) -> None:
        """Let a quarantined batch in, or a changed schema."""
        state = self.loop.refold()
        held = state.excluded
        if schema:
            what = facts.Overridden(what="schema", reason=self.reason, by=self.by, batch=batch)
        else:
            chosen = batch if batch is not None else (held[-1] if held else None)
            if chosen not in held:
                listed = ", ".join(map(str, held)) or "none"
                raise VersionUnknown(f"expected a batch in quarantine ({listed}), got {batch}")
            what = facts.Overridden(what="quarantine", reason=self.reason, by=self.by, batch=chosen)
        self.loop.append([what], self.loop.clock.now())

    def train(self) -> Step:
        """Train now because a person says so."""
        return self.loop.train(f"{self.by}: {self.reason}")
