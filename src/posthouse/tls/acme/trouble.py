"""Why an order failed, for a person: what is wrong with which name, and what to do about it."""

from __future__ import annotations

import re
from typing import Final

from posthouse.kernel.errors import UserError

WORDS_MAX: Final = 600
"""Of what an authority says."""


class OrderFailed(UserError):
    """No certificate this time; `retry_after_s` is what the authority asked for, if anything."""

    def __init__(self, text: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(text, hint=hint)
        self.retry_after_s = retry_after_s


_REACH: Final = {
    "http-01": "port 80 of every address {name} has in the DNS must lead to this server; try"
    " http://{name}/ from elsewhere",
    "tls-alpn-01": "port 443 of every address {name} has in the DNS must lead to this server, with"
    " no TLS proxy in between",
    "dns-01": "the record _acme-challenge.{name} must be seen on all name servers of the zone; a"
    " larger dns_update.settle_s may help",
}
_ANSWERED: Final = {
    "http-01": "another web server answers on port 80 of {name}, or one of its addresses is not"
    " this server's",
    "tls-alpn-01": "something else answers TLS on port 443 of {name}, or one of its addresses is"
    " not this server's",
    "dns-01": "_acme-challenge.{name} shows another text: an old one, or secondary servers that are"
    " behind; a larger dns_update.settle_s may help",
}
_HINTS: Final = {
    "connection": _REACH,
    "unauthorized": _ANSWERED,
    "incorrectResponse": _ANSWERED,
    "tls": _ANSWERED,
}
_PLAIN: Final = {
    "dns": "the DNS of {name} cannot be asked: does it exist, do all its name servers answer?",
    "unknownHost": "publish an address for {name} in the DNS",
    "caa": "the CAA records of {name} allow other authorities only; add one for this authority",
    "dnssec": "DNSSEC of {name} is broken: see the DS record and the signatures",
    "rateLimited": "too many orders for this domain or account; it is tried again by itself",
    "rejectedIdentifier": "this authority gives no certificates for {name}",
    "externalAccountRequired": "this authority wants a key of your contract with it: set"
    " acme.eab_key_id and acme.eab_key_file",
    "invalidContact": "check acme.contact",
    "unsupportedContact": "check acme.contact",
    "userActionRequired": "the authority's terms have changed: read what it says",
    "serverInternal": "the authority has trouble of its own; it is tried again by itself",
    "badCSR": "set acme.key_type to the other kind: the authority does not take this one",
    "accountDoesNotExist": "the account is made anew at the next attempt",
}


_DNS_WORDS: Final = re.compile(
    r"resolving|\blookup \S|no such host|\bNXDOMAIN\b|\bSERVFAIL\b|no valid IP address|DNS problem",
    re.IGNORECASE,
)
"""Authorities call it a connection error, too, when they could not ask the DNS."""


def hint_for(code: str | None, name: str, challenge: str, *, said: str = "") -> str:
    """What to do about an error of RFC 8555 §6.7 for a name proved in that way.

    Args:
        said: the authority's words.
    """
    if code == "connection" and _DNS_WORDS.search(said):
        code = "dns"
    if code in _HINTS:
        return _HINTS[code].get(challenge, "").format(name=name)
    return _PLAIN.get(code or "", _REACH.get(challenge, "")).format(name=name)


def cut(text: str) -> str:
    """An authority's words on one line, of a bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= WORDS_MAX else line[:WORDS_MAX] + "…"
