"""What is said of a DMARC record, its slips first: receivers pass over them in silence, so nobody
else tells that the policy is not the one that was meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from posthouse.mailauth.dmarc.grammar import read_tags
from posthouse.mailauth.results import Disposition, DmarcPolicy
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.zone.checked import State, listed

MAILTO: Final = "mailto:"
SHOWN_MAX: Final = 80
SLIPS_MAX: Final = 5


def judge_dmarc(
    domain: str, records: Sequence[bytes], policy: DmarcPolicy | None, others: Sequence[str]
) -> tuple[State, str]:
    """Args:
    records: policy records at the domain itself.
    policy: what applies, from the domain or from above it.
    others: TXT records there that are no policy.
    """
    if len(records) > 1:
        return State.WRONG, (
            f"there are {len(records)} DMARC records, and hosts then use none of them (RFC 9989"
            " §4.10); keep one"
        )
    if not records and others:
        return State.WRONG, (
            'the record is none of DMARC\'s: it has to begin with "v=DMARC1" in just these letters'
        )
    if policy is None:
        return State.MISSING, (
            "hosts do not know what to do with mail that uses your name and is not yours, some"
            " large ones refuse or junk mail of domains without it, and nobody reports to you;"
            " publish the record"
        )
    if policy.domain != domain:
        return State.RIGHT, f"the record of {policy.domain} applies: {policy.text}"
    if found := slips(records[0], policy):
        return State.WRONG, "; ".join(found[:SLIPS_MAX])
    words = [_POLICY_WORDS[policy.policy]]
    if policy.is_testing:
        words.append("t=y asks hosts to be one step milder, for trying it out")
    if not policy.aggregate_uris:
        words.append("without rua= you get no reports, and do not see whether your own mail passes")
    is_mild = policy.policy is Disposition.NONE or policy.is_testing or not policy.aggregate_uris
    return (State.ADVICE if is_mild else State.RIGHT), "; ".join(words)


_POLICY_WORDS: Final = {
    Disposition.NONE: "p=none watches only: when reports show that all your own mail passes, go on"
    " to p=quarantine, then p=reject",
    Disposition.QUARANTINE: "mail that is not yours goes to Junk; when reports show none of yours"
    " in it, go on to p=reject",
    Disposition.REJECT: "mail that uses your name and is not yours is refused",
}


def slips(record: bytes, policy: DmarcPolicy) -> list[str]:
    """Values that are none, which hosts pass over (RFC 9989 §4.7, §4.10.1), in words."""
    tags = read_tags(record)
    allowed = [each.value for each in Disposition]
    effect = (
        "hosts use none of the record" if policy.fault else "hosts treat the whole record as p=none"
    )
    choice = "write p=none, p=quarantine or p=reject"
    found = []
    if "p" not in tags:
        found.append(f"the record has no p=, so {effect}; {choice}")
    for name in ("p", "sp", "np"):
        if name in tags and tags[name] not in allowed:
            what = f"{name}={_shown(tags[name])} is none of {', '.join(allowed)}, so {effect}"
            found.append(f"{what}; {choice}" if name == "p" else f"{what}; mend {name}=")
    for name in ("rua", "ruf"):
        for piece in tags.get(name, "").split(",") if name in tags else ():
            found += _slips_of_address(name, piece.strip())
    return found


def _slips_of_address(name: str, piece: str) -> list[str]:
    if mailbox(piece):
        return []
    if not piece:
        return [f"{name}= has no address where one should be, so reports are not sent there"]
    if mailbox(MAILTO + piece):
        words = f"{name}={_shown(piece)} needs mailto: before the address, or no reports come"
        return [f"{words}: write {name}={MAILTO}{_shown(piece)}"]
    return [f"{_shown(piece)} in {name}= is no address of the form mailto:you@example.org"]


def mailbox(uri: str) -> str:
    """The address of a mailto: URI; "" where it has none."""
    scheme, colon, rest = uri.partition(":")
    address = unquote(rest.partition("?")[0].partition("!")[0])
    if not colon or f"{scheme.lower()}:" != MAILTO:
        return ""
    try:
        parse_mailbox(address)
    except AddressError:
        return ""
    return address


def unknown_words(addresses: Sequence[str]) -> str:
    """Of addresses for reports in domains of ours that nobody here has."""
    do = "does not exist" if len(addresses) == 1 else "do not exist"
    return (
        f"{listed(addresses)} {do} on this server, so reports sent there come back; use the wanted"
        " record, or make an account or alias of that name"
    )


def _shown(text: str) -> str:
    plain = "".join(each if each.isprintable() else "?" for each in text[:SHOWN_MAX])
    return plain if len(text) <= SHOWN_MAX else f"{plain}…"
