"""What is said of a DKIM key and of the record that the DNS has for it."""

from __future__ import annotations

from typing import Final

from posthouse.accounts.domain_keys import DomainKey, KeyState, day_of, minute_of
from posthouse.accounts.rotation import Options, Sight, is_needless, needed_until
from posthouse.mailauth.dkim.grammar import DkimSyntaxError, read_tags
from posthouse.zone.checked import State

PART: Final = 12
"""Characters shown of the place where two records differ."""


def judge_key(
    key: DomainKey, seen: Sight, *, now_us: int, options: Options, has_other: bool
) -> tuple[State, str]:
    """Args:
    seen: an answer of the DNS, not a failure.
    has_other: another key of the same algorithm signs.
    """
    there = "" if seen.found == "no record" else f" ({difference(seen.found, key.record)})"
    bad = State.WRONG if there else State.MISSING
    match key.state:
        case KeyState.WAITING if seen.is_shown:
            return State.RIGHT, _words_of_shown(key, now_us, has_other=has_other)
        case KeyState.WAITING:
            meanwhile = (
                "the key before it signs on"
                if has_other
                else "until the DNS shows it, mail goes out without its signature"
            )
            return bad, f"a key that waits to sign{there}; publish its record: {meanwhile}"
        case KeyState.SIGNING if seen.is_shown:
            return State.RIGHT, "it signs, and others can verify it"
        case KeyState.SIGNING:
            return bad, (
                f"this key signs your mail, and others cannot verify it{there}: such mail counts as"
                " forged or altered; publish its record now"
            )
    return _judge_retired(key, seen, there, now_us=now_us, options=options)


def _words_of_shown(key: DomainKey, now_us: int, *, has_other: bool) -> str:
    """Of a waiting key. One that takes over waits until no cache is left without it."""
    if key.ready_at is not None and key.ready_at > now_us:
        return (
            f"a new key; it signs from {minute_of(key.ready_at)} on, when no cache is left without"
            " it, and the key before it until then"
        )
    if has_other and key.ready_at is None:
        return (
            "a new key; the server sees its record within the hour, or at once with: posthouse"
            f" domain keys {key.domain}. It signs when no cache is left without it"
        )
    return (
        "a new key; the server signs with it within the hour, or at once after: posthouse domain"
        f" keys {key.domain}"
    )


def _judge_retired(
    key: DomainKey, seen: Sight, there: str, *, now_us: int, options: Options
) -> tuple[State, str]:
    if is_needless(key, now_us, options):
        if seen.is_shown:
            return State.ADVICE, "it signs no more and nothing needs it: remove its record"
        return State.RIGHT, "it signs no more, and its record is gone"
    until = day_of(needed_until(key, options))
    if seen.is_shown:
        return State.RIGHT, (
            f"it signs no more; its record stays until {until}, when its last mail has arrived"
        )
    if seen.is_revoked:
        return State.RIGHT, "it signs no more, and its record says that nobody shall trust it"
    return State.WRONG if there else State.MISSING, (
        f"it signs no more, but mail signed with it is under way and cannot be verified{there}: its"
        f" record went too early; put it back until {until}. If somebody else has the private key,"
        " publish it with nothing after p= instead"
    )


def difference(found: str, wanted: str) -> str:
    """What is wrong with a key record that is there, in words."""
    theirs, ours = _public(found), _public(wanted)
    if theirs is None:
        return f"{found} there" if "TXT records" in found else "what is there is no key record"
    if theirs == ours:
        return "p= is right there, but something else is not"
    if not theirs:
        return "what is there revokes it, as nothing follows p="
    if ours is not None and ours.startswith(theirs):
        return f"what is there is cut short, with {len(theirs)} of {len(ours)} characters of p="
    at = next(
        (n for n, (a, b) in enumerate(zip(theirs, ours or "", strict=False)) if a != b),
        min(len(theirs), len(ours or "")),
    )
    return (
        f"what is there differs from character {at + 1} of p= on: {_part(theirs, at)} where"
        f" {_part(ours or '', at)} should be"
    )


def _public(record: str) -> str | None:
    """What follows p=, without blanks; None where there is no such thing."""
    try:
        value = read_tags(record.encode()).get("p")
    except DkimSyntaxError:
        return None
    return None if value is None else "".join(value.split())


def _part(text: str, at: int) -> str:
    part = text[at : at + PART]
    return f'"{part}{"…" if len(text) > at + PART else ""}"' if part else "nothing"
