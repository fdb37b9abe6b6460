"""The only place that knows Apprise, and so Slack, Teams, e-mail, PagerDuty and webhooks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from keepfit.alerts.kinds import BAD, GOOD
from keepfit.errors import ConfigError, ExtraMissing

if TYPE_CHECKING:
    from keepfit.alerts.kinds import Message
    from keepfit.alerts.settings import Target


class Post:
    """One target's post box.

    Parameters
    ----------
    target
        Whom to tell.
    link
        Where people reach the server, or nothing.

    Raises
    ------
    ConfigError
        Apprise does not know such an address.
    ExtraMissing
        Apprise is not installed.
    """

    def __init__(self, target: Target, link: str = "") -> None:
        apprise = _package()
        self.target, self._link = target, link
        self._box: Any = apprise.Apprise()
        # Apprise writes addresses into its log, which are secrets.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        if not self._box.add(target.url):
            raise ConfigError(
                f"expected an address that Apprise knows for {target.name!r}, got another",
                hint="as slack://…, mailto://…, pagerduty://… or json://host/path",
            )

    def send(self, message: Message) -> bool:
        """Tell, and return whether it was taken; a target that is slow is not waited for long."""
        apprise = _package()
        notice = apprise.NotifyType.WARNING
        if message.kind in GOOD:
            notice = apprise.NotifyType.SUCCESS
        elif message.kind in BAD:
            notice = apprise.NotifyType.FAILURE
        body = f"{message.body}\n\n{self._look(message.look)}"
        return bool(self._box.notify(title=message.title, body=body, notify_type=notice))

    def _look(self, look: str) -> str:
        """Return where to look: in a link or by a command."""
        return f"{self._link}/{look}" if self._link else f"keepfit {look.replace('/', ' FILE ')}"


def _package() -> Any:
    try:
        import apprise
    except ImportError:
        raise ExtraMissing(
            "expected the package `apprise` to send alerts with, and it is not installed",
            hint='pip install "keepfit[alerts]"',
        ) from None
    return apprise
