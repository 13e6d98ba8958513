"""Chains of forwarders: RFC 8617 §5.2, H46."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ports import DnsStatus, RecordType
from posthouse.mailauth.arc import verify as arc
from posthouse.mailauth.arc.grammar import DkimSyntaxError, read_results
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.verify import Options
from posthouse.mailauth.questions import Question
from posthouse.message.fields import read_section
from tests.mailauth.arc.lab import judge, seal
from tests.mailauth.dkim.lab import DOMAIN, MESSAGE, NOW, key, record, records

OTHER = "lists.example.net"
FOUND = {**records(), f"e._domainkey.{OTHER}": record(ED25519)}


def chain(count: int) -> bytes:
    message = MESSAGE
    for _ in range(count):
        message = seal(message)
    return message


def test_a_message_without_chain_has_none() -> None:
    outcome = judge(MESSAGE)
    assert (outcome.result.value, outcome.sealers, outcome.reason) == ("none", (), "")


def test_a_chain_tells_its_sealers_and_what_they_found() -> None:
    first = seal(MESSAGE, results="mx.example.org;\r\n spf=fail; dmarc=pass (p=none)")
    second = seal(first, signer=key(ED25519, OTHER), results="mx.lists; arc=pass")
    outcome = judge(second, FOUND)
    assert outcome.result.value == "pass"
    assert outcome.sealers == (DOMAIN, OTHER)
    assert outcome.results == (
        b"mx.example.org; spf=fail; dmarc=pass (p=none)",
        b"mx.lists; arc=pass",
    )
    assert {each.what for each in outcome.evidence} == {
        f"TXT e._domainkey.{DOMAIN}",
        f"TXT e._domainkey.{OTHER}",
        "body hash, relaxed",
        "header hash, relaxed",
    }


def test_keys_of_all_sealers_are_asked_for_at_once() -> None:
    message = seal(seal(chain(2), signer=key(ED25519, OTHER)), signer=key(RSA))
    prepared = arc.prepare(message, read_section(message))
    assert next(arc.verify(prepared, NOW)) == (
        Question(f"r._domainkey.{DOMAIN}", RecordType.TXT),
        Question(f"e._domainkey.{DOMAIN}", RecordType.TXT),
        Question(f"e._domainkey.{OTHER}", RecordType.TXT),
    )
    assert judge(message, FOUND).result.value == "pass"


def test_a_later_set_repairs_what_a_list_changed() -> (
    None
):  # §5.2 step 5: only the newest AMS counts
    changed = chain(1).replace(b"A  letter", b"[list] A letter")
    assert judge(changed).result.value == "fail"
    assert judge(seal(changed)).result.value == "pass"


def test_fifty_sets_are_a_chain() -> None:  # H46
    outcome = judge(chain(50))
    assert outcome.result.value == "pass", outcome.reason
    assert len(outcome.sealers) == 50


def renumbered(old: int, new: int, message: bytes) -> bytes:
    return message.replace(b" i=%d;" % old, b" i=%d;" % new)


BROKEN: list[tuple[str, Callable[[], bytes], str]] = [
    ("51 sets", lambda: b"ARC-Seal: x\r\n" + chain(50), "more than 50"),  # H46
    ("i=0", lambda: renumbered(1, 0, chain(1)), "i=0 is not within 1 to 50"),  # H46
    ("i=51", lambda: renumbered(1, 51, chain(1)), "i=51 is not within"),  # H46
    ("i=1, 3", lambda: seal(chain(1), instance=3), "are not 1 to 2"),  # H46
    ("i=2 alone", lambda: seal(MESSAGE, instance=2), "are not 1 to 1"),  # H46
    ("i=1, 1", lambda: renumbered(2, 1, chain(2)), "stands twice with i=1"),  # H46
    ("i=huge", lambda: renumbered(1, 10**99, chain(1)), "no number"),  # H46
    ("no seal", lambda: chain(2).replace(b"ARC-Seal: i=1", b"X: i=1"), "arc-seal are not 1 to 1"),
    ("only results", lambda: b"ARC-Authentication-Results: i=1; a\r\n" + MESSAGE, "1 to 0"),
    ("cv=fail", lambda: seal(chain(1), chain_status="fail"), "found it broken"),
    ("cv=none", lambda: seal(chain(1), chain_status="none"), "cv=none and not pass"),
    ("cv=pass", lambda: seal(MESSAGE, chain_status="pass"), "cv=pass and not none"),
    ("cv=x", lambda: seal(MESSAGE, chain_status="x"), 'cv= is "x"'),
    ("h= of a seal", lambda: seal(MESSAGE, more="h=From;"), "h= is not allowed"),
    ("h= of ARC-Seal", lambda: seal(chain(1), names="From:ARC-Seal"), "covers ARC-Seal"),
    ("h= without From", lambda: seal(MESSAGE, names="To"), "does not cover From"),
    ("expired", lambda: seal(MESSAGE, tags="t=1; x=2;"), "has expired"),
    ("future", lambda: seal(MESSAGE, tags=f"t={NOW + 900};"), "in the future"),
    ("l=", lambda: seal(MESSAGE, tags="l=9999;"), "more than the body has"),
    ("body", lambda: chain(2) + b"PS\r\n", "the body is not the one"),
    ("field", lambda: chain(2).replace(b"A  letter", b"A bill"), "Signature i=2"),
    ("results", lambda: chain(2).replace(b"i=1; mx.example", b"i=1; mx.evil", 1), "ARC-Seal i=2"),
    ("old AMS", lambda: chain(2).replace(b"i=1; a=ed", b"i=1; y=1; a=ed", 1), "ARC-Seal i=2"),
    ("two keys", lambda: seal(MESSAGE, signer=key(RSA, "x.example")), "no key for it"),
    ("no i= first", lambda: chain(1).replace(b"Results: i=1;", b"Results: x; i=1;"), "first"),
]


@pytest.mark.parametrize(
    ("make", "reason"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN]
)
def test_a_broken_chain_fails_and_says_where(make: Callable[[], bytes], reason: str) -> None:  # H46
    outcome = judge(make())
    assert outcome.result.value == "fail"
    assert reason in outcome.reason
    assert len(outcome.reason) < 300


def test_a_structure_that_is_broken_asks_nothing() -> None:  # H46
    for message in (
        renumbered(1, 2, chain(1)),
        chain(1) + b"PS",
        b"ARC-Seal: x\r\n" * 51 + MESSAGE,
    ):
        with pytest.raises(StopIteration):
            next(arc.verify(arc.prepare(message, read_section(message)), NOW))


def test_a_body_signed_in_part_counts_only_where_that_is_accepted() -> None:
    from posthouse.mailauth.dkim.canonical import Canonicalization, hash_body
    from tests.mailauth.arc import lab

    body = read_section(MESSAGE).body

    def part(octets: bytes, start: int, how: Canonicalization) -> object:
        return {None: hash_body(octets, start, how, (5,))[5]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "hash_body", part)
        message = seal(MESSAGE, tags="l=5;")
    assert body
    assert judge(message).result.value == "fail"
    assert judge(message, options=Options(accepts_partial=True)).result.value == "pass"


def test_a_key_that_cannot_be_had_is_told_apart() -> None:
    # Deviation from RFC 8617 §5.2.1, see arc.verify
    message = seal(chain(1), signer=key(RSA))
    for name in ("e", "r"):
        found = {**FOUND, f"{name}._domainkey.{DOMAIN}": DnsStatus.TEMPFAIL}
        outcome = judge(message, found)
        assert outcome.result.value == "temperror"
        assert outcome.reason.endswith("its key cannot be had now: for a test")


RESULTS = [
    (b" i=1; mx.example; spf=pass\r\n", (1, b"mx.example; spf=pass")),
    (b"i=50;x", (50, b"x")),
    (b" (c) i\t=\r\n 2 (c) ;\r\n a", (2, b"a")),
    (b" i=1;", (1, b"")),
    (b" i=1; \xff", (1, b"\xff")),
]


@pytest.mark.parametrize(("value", "expected"), RESULTS)
def test_the_instance_of_results_is_read(value: bytes, expected: tuple[int, bytes]) -> None:
    assert read_results(value) == expected


@pytest.mark.parametrize(
    "value", [b"", b"i=;", b"i=1", b"x; i=1;", b"i=0;", b"i=51;", b"i=1 2;", b"(" * 999]
)
def test_results_without_instance_are_refused(value: bytes) -> None:
    with pytest.raises(DkimSyntaxError):
        read_results(value)


pieces = st.sampled_from(
    [
        *(b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:", b" i=1;"),
        *(b" i=2;", b"cv=none;", b"cv=pass;", b"a=rsa-sha256; d=a.example; s=b;", b"b=QUJD;"),
        *(b"h=From;", b"\r\n", b"\n ", b"\xff", b"\0", b"bh=" + b"A" * 43 + b"=;", b"From: a\r\n"),
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join))
def test_any_octets_give_an_outcome(octets: bytes) -> None:
    outcome = judge(octets)
    assert outcome.result.value in ("none", "fail")
    assert outcome.reason.isprintable()
