"""Signs that a message came by way of somebody who passes mail on: a list, a forwarder.

DMARC fails for such mail without anybody forging it, and refusing it makes lists unsubscribe the
reader. So RFC 9989 §7.4 asks for more knowledge than "p=reject" before mail is refused, and these
signs are ours. Whoever forges may put them on, and gets his message into Junk for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from posthouse.mailauth.results import ArcOutcome, DkimOutcome, Result
from posthouse.message.fields import HeaderSection

LIST_FIELDS: Final = (b"list-id", b"list-post", b"list-unsubscribe", b"mailing-list")
FORWARDED_FIELDS: Final = (b"resent-from", b"x-forwarded-to", b"x-forwarded-for")


def signs(
    section: HeaderSection,
    *,
    author_domains: Sequence[str],
    dkim: Sequence[DkimOutcome],
    arc: ArcOutcome,
) -> str:
    """Why it may have been passed on, in words; "" when nothing says so."""
    for name in LIST_FIELDS:
        if name in section:
            return f"it has a {name.decode().title()} field, as mail of lists has"
    for name in FORWARDED_FIELDS:
        if name in section:
            return f"it has a {name.decode().title()} field, as forwarded mail has"
    if arc.result is Result.PASS:
        return f"{arc.sealers[-1]} sealed it on its way (ARC)"
    for outcome in dkim:
        if outcome.result is Result.FAIL and _is_of(outcome.domain, author_domains):
            return f"{outcome.domain} signed it, and it was changed afterwards"
    return ""


def _is_of(domain: str, author_domains: Sequence[str]) -> bool:
    return any(domain == author or author.endswith(f".{domain}") for author in author_domains)
