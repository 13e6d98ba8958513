"""The reply for mail that is turned down because of SPF (RFC 7208 §8, RFC 7372 §3.2)."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.reply import Reply
from posthouse.mailauth.results import Result, SpfIdentity, SpfOutcome

_IDENTITIES: Final = {SpfIdentity.HELO: "HELO", SpfIdentity.MAIL_FROM: "MAIL FROM"}


def refusal(outcome: SpfOutcome) -> Reply:
    """The reply to a failure or an error.

    What the domain says of it is marked as its words (RFC 7208 §6.2, §8.4).

    Raises:
        ValueError: for any other result, which refuses nothing (RFC 7208 §8.2, §8.5).
    """
    identity = _IDENTITIES[outcome.identity]
    domain = outcome.domain
    match outcome.result:
        case Result.FAIL:
            text = f"SPF {identity} check failed: {domain} does not send from this address"
            if outcome.explanation:
                text = (
                    f"SPF {identity} check failed:\nThe domain {domain} explains:\n"
                    f"{outcome.explanation}"
                )
            return Reply(550, "5.7.23", text)
        case Result.TEMPERROR:
            text = f"SPF {identity} check of {domain}: the DNS did not answer, try again later"
            return Reply(451, "4.7.24", text)
        case Result.PERMERROR:
            text = f"SPF {identity} check of {domain}: its record has an error: {outcome.reason}"
            return Reply(550, "5.7.24", text)
        case _:
            raise ValueError(f"SPF {outcome.result.value} refuses nothing")
