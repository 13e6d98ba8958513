"""Which key of an address is meant where one is to be shown to others: the one in use."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from posthouse.accounts import mail_keys
from posthouse.accounts.mail_keys import MailKey, by_name, standing
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
        raise mail_keys.several_fit(best, text)
    return Choice(key=best[0], others=tuple(key for key in fitting if key is not best[0]))
