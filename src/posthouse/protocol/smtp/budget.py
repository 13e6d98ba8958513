"""What a session has used up of its `Limits`: errors, junk, refused recipients, logins."""

from __future__ import annotations

from posthouse.protocol.smtp.limits import LIMITS_HIT_MAX, Limits


class Budget:
    """Counts and the delay they earn. Each `count_*` says whether the session may go on.

    `limits_hit` holds the names of the settings that were reached, for the metrics.
    """

    __slots__ = ("_errors", "_failed_logins", "_junk", "_refused", "delay_s", "limits_hit")

    def __init__(self) -> None:
        self._errors = self._junk = self._refused = self._failed_logins = 0
        self.delay_s = 0.0
        self.limits_hit: tuple[str, ...] = ()

    def count_error(self, limits: Limits) -> bool:
        self._errors += 1
        if self._errors > limits.errors_max:
            return self.hit("smtp.errors_max")
        if self._errors > limits.errors_soft:
            self.delay_s += limits.soft_delay_s
        return True

    def count_junk(self, limits: Limits) -> bool:
        """A command that brings no mail nearer: NOOP, RSET, VRFY, EXPN, HELP, a repeated hello."""
        self._junk += 1
        return self._junk <= limits.junk_commands_max or self.hit("smtp.junk_commands_max")

    def count_refused_recipient(self, limits: Limits) -> bool:
        self._refused += 1
        if self._refused >= limits.unknown_recipients_max:
            return self.hit("smtp.unknown_recipients_max")
        if self._refused > limits.unknown_recipients_soft:
            self.delay_s += limits.soft_delay_s
        return True

    def count_failed_login(self, limits: Limits) -> bool:
        self._failed_logins += 1
        return self._failed_logins < limits.auth_attempts_max or self.hit("auth.attempts_max")

    def forgive_junk(self) -> None:
        """A message was accepted."""
        self._junk = 0

    def hit(self, name: str) -> bool:
        """Note that the setting's bound was reached; always False."""
        if len(self.limits_hit) < LIMITS_HIT_MAX:
            self.limits_hit += (name,)
        return False
