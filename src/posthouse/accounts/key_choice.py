"""Which key a person means by a fingerprint or an address, and which of an address is meant where
one is to be shown to others: the one in use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from posthouse.accounts import mail_keys
from posthouse.accounts.admin import parse_typed
from posthouse.accounts.key_names import by_inner_name
from posthouse.accounts.mail_keys import MailKey, standing
from posthouse.accounts.mail_policy import SCHEMES
from posthouse.kernel.errors import NotKnown, UserError
from posthouse.message.address import format_address
from posthouse.mimesec.findings import Scheme
from posthouse.store.transaction import Transaction


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    key: MailKey
    others: tuple[MailKey, ...] = ()
    """That fit as well, and were passed over."""


def in_use(
    tx: Transaction,
    text: str,
    *,
    scheme: Scheme | None = None,
    wish: Callable[[MailKey], bool] = lambda key: True,
) -> Choice:
    """The key of an address that is used: of those that are neither revoked nor over the newest of
    whoever comes first there (`mail_keys.by_address`). With a fingerprint as `by_name`.

    Args:
        scheme: only one of it will do.
        wish: those that are like that come before all others.

    Raises:
        NotKnown: there is none.
        UserError: keys of both schemes are in use, which nobody can choose between by their dates.
    """
    fitting = [
        key
        for key in (mail_keys.naming(tx, text) if "@" in text else ())
        if scheme is None or key.scheme is scheme
    ]
    if len(fitting) < 2:
        return Choice(key=by_name(tx, text, scheme=scheme))
    counted = {key.id for key in mail_keys.by_address(tx, text)}
    now_us = tx.now_us()
    best = fitting
    for is_better in (wish, lambda key: key.id in counted, lambda key: key.is_usable(now_us)):
        best = [key for key in best if is_better(key)] or best
    best = [key for key in best if standing(key) == standing(best[0])]
    if len({key.scheme for key in best}) > 1:
        raise several_fit(best, text)
    return Choice(key=best[0], others=tuple(key for key in fitting if key is not best[0]))


def by_name(
    tx: Transaction, text: str, *, scheme: Scheme | None = None, preferred: Scheme | None = None
) -> MailKey:
    """The key that a person means: by its fingerprint, eight digits or more of either end of it,
    or an address; where there is none so, by the id of a subkey or a serial.

    Args:
        scheme: only one of it will do.
        preferred: where several fit, those of it alone count.

    Raises:
        NotKnown: there is none.
        UserError: several fit; the hint lists them.
    """
    if "@" in text:
        found = list(mail_keys.naming(tx, format_address(parse_typed(text))))
    else:
        wanted = text.replace(" ", "").replace(":", "").upper().removeprefix("0X")
        found = mail_keys.by_either_end(tx, wanted) if len(wanted) >= 8 else []
        found = found or by_inner_name(tx, text)
    if scheme is not None:
        found = [key for key in found if key.scheme is scheme]
    if not found:
        kind = f"{scheme.value} key" if scheme is not None else "key"
        ends = "" if "@" in text else "; take eight digits or more of either end of a fingerprint"
        hint = f"posthouse key list shows those that are{ends}"
        raise NotKnown(f"there is no {kind} {text}", hint=hint)
    if len(found) > 1 and preferred is not None:
        found = [key for key in found if key.scheme is preferred] or found
    if len(found) > 1:
        raise several_fit(found, text)
    return found[0]


def several_fit(found: Sequence[MailKey], text: str) -> UserError:
    """Which there are, and how to say which."""
    named = ", ".join(f"{key.fingerprint} ({key.scheme.value})" for key in found[:10])
    schemes = [name for name, one in SCHEMES.items() if any(k.scheme is one for k in found)]
    options = " or ".join(f"--scheme {name}" for name in schemes)
    way = f"add {options}, or name one of them" if len(schemes) > 1 else "name one of them"
    return UserError(f"{len(found)} keys fit {text}", hint=f"{way}: {named}")


def is_in_use(tx: Transaction, key: MailKey) -> bool:
    """Whether an own key with its private half is the one that is used, for one at least of its
    addresses: those before it stay to read old mail."""
    now_us = tx.now_us()
    for address in mail_keys.counted_addresses(tx, key):
        used = (
            one.id
            for one in mail_keys.by_address(tx, address)
            if (one.account, one.domain) == (key.account, key.domain)
            and one.scheme is key.scheme
            and one.has_private
            and one.is_usable(now_us)
        )
        if next(used, None) == key.id:
            return True
    return False
