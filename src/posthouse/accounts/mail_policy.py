"""What of an account's mail is signed, encrypted, opened and kept encrypted, in words.

What an account says comes before what its domain says; what neither says is "never".
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from posthouse.accounts.admin import known_account, known_domain, parse_typed_domain
from posthouse.kernel.errors import NotKnown, UserError
from posthouse.kernel.ids import AccountId, DomainId
from posthouse.mimesec.findings import Scheme
from posthouse.store import accounts
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import DirectoryChanged, Transaction

SCHEMES: Final = {"smime": Scheme.SMIME, "openpgp": Scheme.OPENPGP}
"""As they are stored and typed."""


class Mode(Enum):
    """How firmly something is done; the words are stored, typed and shown."""

    NEVER = "never"
    WHEN_POSSIBLE = "when possible"  # where the keys for it are at hand
    ALWAYS = "always or refuse"  # or the message is refused, with a reply that says which key


class MailPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """For one account."""

    scheme: Scheme | None = None
    """To prefer where both have keys."""
    sign: Mode = Mode.NEVER
    """What it sends."""
    encrypt: Mode = Mode.NEVER
    """What it sends: for all recipients or for none."""
    open: Mode = Mode.NEVER
    """What arrives for it: signatures are verified, and what is encrypted to a key kept here is
    decrypted. `ALWAYS` refuses what cannot be."""
    at_rest: Mode = Mode.NEVER
    """What is stored for it is encrypted to its own key."""
    at_rest_append: Mode = Mode.NEVER
    """So is what it APPENDs by IMAP."""


NOTHING: Final = MailPolicy()
NOT_SAID: Final = "not said"
"""What takes back the word for a part, and stands for one that was never given."""
PARTS: Final = ("sign", "encrypt", "open", "at_rest", "at_rest_append")


def policy_of(tx: Transaction, account: AccountId) -> MailPolicy:
    """What holds for an account: its own word, else that of the domain of its name."""
    own, theirs = rows.account_policy(tx, account), rows.PolicyRow()
    if (row := accounts.account_by_id(tx, account)) is not None:
        domain = accounts.domain_by_name(tx, row.name.rpartition("@")[2])
        theirs = rows.domain_policy(tx, domain.id) if domain is not None else theirs
    scheme = own.scheme or theirs.scheme
    return MailPolicy(
        scheme=SCHEMES[scheme] if scheme else None,
        **{part: _mode(getattr(own, part), getattr(theirs, part)) for part in PARTS},
    )


def set_policy(
    tx: Transaction, whom: str, *, scheme: str | None = None, **modes: Mode | str
) -> rows.PolicyRow:
    """Change what an account ("ada@example.org") or a domain ("example.org") says.

    Args:
        scheme: "smime", "openpgp", or "" to say nothing about it; None leaves it.
        modes: by the names of PARTS, NOT_SAID to say nothing about one; those that are not named
            stay as they are.

    Returns:
        All that is said now.

    Raises:
        UserError: there is no such account or domain.
    """
    account, domain = owner(tx, whom)
    before = (
        rows.account_policy(tx, account) if account is not None else rows.domain_policy(tx, domain)  # type: ignore[arg-type]  # one of them is there
    )
    changes: dict[str, str | None] = {
        part: mode.value if isinstance(mode, Mode) else None for part, mode in modes.items()
    }
    if scheme is not None:
        changes["scheme"] = scheme or None
    after = msgspec.structs.replace(before, **changes)
    rows.set_policy(tx, after, account=account, domain=domain)
    tx.changed(DirectoryChanged())
    return after


def said_by(tx: Transaction, whom: str) -> rows.PolicyRow:
    """What an account or a domain says itself. Raises UserError as `set_policy`."""
    account, domain = owner(tx, whom)
    if account is not None:
        return rows.account_policy(tx, account)
    assert domain is not None
    return rows.domain_policy(tx, domain)


def owner(tx: Transaction, whom: str) -> tuple[AccountId | None, DomainId | None]:
    """The account or the domain of that name. Raises UserError when there is none."""
    if "@" in whom:
        return known_account(tx, whom).id, None
    try:
        return None, known_domain(tx, parse_typed_domain(whom)).id
    except NotKnown as unknown:
        raise NotKnown(
            unknown.text,
            hint="an account is named by its whole address; there are posthouse account list and"
            " posthouse domain list",
        ) from None


def parse_mode(text: str) -> Mode | str:
    """A mode, or NOT_SAID. Of "always or refuse" the first word will do.

    Raises UserError, naming the words there are.
    """
    words = " ".join(text.replace("-", " ").lower().split())
    for mode in Mode:
        if words in (mode.value, mode.value.partition(" or ")[0]):
            return mode
    if words == NOT_SAID:
        return NOT_SAID
    known = ", ".join(f'"{one}"' for one in (*(mode.value for mode in Mode), NOT_SAID))
    wrong = f'"{words}" is no word of a policy' if words else "the word of the policy is empty"
    raise UserError(wrong, hint=f"there is {known}")


def _mode(*said: str | None) -> Mode:
    return next((Mode(one) for one in said if one is not None), Mode.NEVER)
