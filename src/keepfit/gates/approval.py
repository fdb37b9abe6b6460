"""A gate that a person answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from keepfit.clock import duration
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Approved, Declined, Verdict
from keepfit.parts import Part
from keepfit.protocols import Comparison


@dataclass(frozen=True, repr=False)
class Approval(Part):
    """Let a version serve only once a person has said so.

    Beside other gates it is asked last: a person is bothered only with what passed the rest.
    From then on the version waits. ``keepfit approve v7`` lets it go on with the loop's next
    step, through its final fit and its rollout where there are any; ``keepfit refuse v7`` ends
    it. The first version waits as well, and nothing serves before it is approved; the trigger goes
    on as if it did.

    While it waits, nothing of the other gates' level is spent, since they are not asked again.
    New labelled rows are held against it with a level of their own (`keepfit.gates.harm`): where
    they show that it does harm, it is refused, and nobody is asked any longer. A later challenger
    that passes the rest takes its place. Where another version becomes champion meanwhile, it goes
    back before the other gates. A backtest asks nobody, takes it as approved, and says so.

    Parameters
    ----------
    remind
        After how long people are told again that it waits, where alerts are set up.
    expires
        After how long it is refused because nobody answered.

    Raises
    ------
    ConfigError
        A length is none, or not above zero.

    Examples
    --------
    >>> Approval(expires="7d")
    Approval(expires="7d")
    >>> Approval().name
    'Approved by a person'
    """

    remind: str | timedelta = "1d"
    expires: str | timedelta = "14d"

    live: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for what in ("remind", "expires"):
            length: str | timedelta = getattr(self, what)
            if duration(length) <= timedelta(0):
                raise ConfigError(f"Approval: expected {what} to be above zero, got {length!r}")

    @property
    def name(self) -> str:
        """The gate in words."""
        return "Approved by a person"

    def judge(self, comparison: Comparison) -> Verdict:
        """Return not enough evidence: no figures stand in for a person's word."""
        return self._verdict(Answer.NOT_ENOUGH, "waits for a person")

    def heard(self, said: Approved | Declined | None, *, until: datetime, at: datetime) -> Verdict:
        """Return the verdict by what a person said; where nobody has, it is refused from ``until`` on."""
        if isinstance(said, Approved):
            return self._verdict(Answer.PROMOTE, f"approved by {said.by}: {said.reason}")
        if isinstance(said, Declined):
            return self._verdict(Answer.REFUSE, f"refused by {said.by}: {said.reason}")
        if at >= until:
            return self._verdict(Answer.REFUSE, f"nobody approved it by {until:%Y-%m-%d %H:%M}")
        return self._verdict(
            Answer.NOT_ENOUGH, f"passed the rest; a person decides by {until:%Y-%m-%d}"
        )

    def assumed(self) -> Verdict:
        """Return the verdict in a backtest, where there is nobody to ask."""
        reason = "taken as approved: a backtest asks nobody"
        return self._verdict(Answer.PROMOTE, reason)

    def _verdict(self, answer: Answer, reason: str) -> Verdict:
        return Verdict(gate=self.name, answer=answer, reason=reason)
