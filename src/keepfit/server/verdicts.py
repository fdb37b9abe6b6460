"""What trials have shown of each model, tried one after the other while nobody waits."""

from __future__ import annotations

from keepfit.server.trial import Request, Trial, Verdict


class Verdicts:
    """How the trial of each model ended, by its digest.

    Whoever asks again and again hears of it in the end; one trial is on at a time. Between two
    calls of ``look`` everybody asks who wants to know: a trial for which nobody does holds up no
    other.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._told: dict[str, Verdict] = {}
        self._on = ""
        self._first = False
        self._wanted = self._stale = False

    @property
    def busy(self) -> bool:
        """Whether a trial is on."""
        return bool(self._on)

    def ask(self, request: Request, *, first: bool = False) -> Verdict | None:
        """Return how the trial of a model ended, None while it is on or has to wait.

        What has to be known ``first`` does not wait for another trial: that one is ended, and
        begins anew when its model is asked for again.
        """
        digest = request.digest
        if digest in self._told:
            return self._told[digest]
        if digest == self._on:
            self._wanted = True
        elif not self._on or self._stale or (first and not self._first):
            self.trial.begin(request)
            self._on, self._first = digest, first
            self._wanted, self._stale = True, False
            self._take_down()
        return self._told.get(digest)

    def look(self) -> None:
        """Take down how the trial that is on has ended, if it has."""
        self._wanted, self._stale = False, not self._wanted
        self._take_down()

    def _take_down(self) -> None:
        if not self._on:
            return
        verdict = self.trial.verdict()
        if verdict is not None:
            self._told[self._on] = verdict
            self._on = ""

    def forget(self, digest: str) -> None:
        """Have a model tried anew when it is asked for next."""
        self._told.pop(digest, None)

    def doubt(self, digest: str) -> None:
        """Have a model that failed tried anew when it is asked for next: the machine may have been busy."""
        if digest in self._told and self._told[digest].problem:
            self.forget(digest)

    def close(self) -> None:
        """End the trial that is on."""
        self.trial.close()
        self._on = ""
