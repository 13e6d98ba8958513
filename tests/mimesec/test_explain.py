"""What was found, in words and as results of RFC 8601."""

from __future__ import annotations

import pytest

from posthouse.kernel.finding import Property
from posthouse.mimesec import explain
from posthouse.mimesec.findings import Scheme, Signature, SignatureResult
from posthouse.mimesec.opening import Opened, Section, SectionKind, Summary
from posthouse.mimesec.protection import Protection, protect
from tests.mimesec.fakes import NOW, FakeRecipient, FakeSealer, FakeSigner
from tests.mimesec.test_opening import (
    BOB,
    BOB_SMIME,
    HEAD,
    MESSAGE,
    SEALED,
    SIGNED,
    TEXT,
    mixed,
    opened,
)


def made(**how: object) -> Opened:
    return opened(protect(MESSAGE, Protection(**how), at=NOW))  # type: ignore[arg-type]


def words(found: Opened) -> str:
    return "\n".join(explain.lines(found))


def test_of_a_plain_message_there_is_nothing_to_say() -> None:
    assert explain.findings(opened(MESSAGE)) == ()
    assert explain.lines(opened(MESSAGE)) == ["The message is not protected."]


def test_a_valid_signature_is_a_pass_with_its_key() -> None:
    found = made(signer=FakeSigner())
    (finding,) = explain.findings(found)
    assert (finding.name, finding.result, finding.reason) == ("x-openpgp", "pass", "")
    assert finding.properties == (
        Property("body", "openpgp-identifier", "alice@a.example"),
        Property("body", "openpgp-key", "AB" * 20),
    )
    assert "The message is signed by its author." in words(found)
    assert "validly signed by alice@a.example" in words(found)
    assert "Header fields signed-only: From, To, Subject." in words(found)


def test_s_mime_has_the_properties_that_are_registered_for_it() -> None:
    (finding,) = explain.findings(made(signer=FakeSigner(scheme=Scheme.SMIME)))
    assert finding.name == "smime"
    assert finding.properties == (
        Property("body", "smime-identifier", "alice@a.example"),
        Property("body", "smime-part", "1"),
    )


def test_a_certificate_that_cannot_be_read_leaves_out_what_it_would_say() -> None:
    signature = Signature(
        scheme=Scheme.SMIME, result=SignatureResult.VALID, certificates=(b"junk",)
    )
    section = Section(
        kind=SectionKind.MESSAGE, path="", summary=Summary.SIGNED, signatures=(signature,)
    )
    found = Opened(octets=b"", summary=Summary.SIGNED, sections=(section,))
    assert explain.findings(found)[0].properties == (Property("body", "smime-part", "1"),)


# H65
def test_a_signed_or_encrypted_part_gives_no_result_about_the_message() -> None:
    found = opened(mixed(SIGNED, SEALED))
    names = [(one.name, one.result) for one in explain.findings(found)]
    assert names == [("protected-part", "pass"), ("protected-part", "opened")]
    assert "not protected; some of its parts are, and only those." in words(found)
    assert "Part 1: validly signed by alice@a.example" in words(found)
    assert "Part 2: decrypted (OpenPGP with AES-256-GCM)." in words(found)


# H65
def test_a_signature_of_somebody_else_never_passes() -> None:
    found = made(signer=FakeSigner("mallory@evil.example"))
    (finding,) = explain.findings(found)
    assert finding.result == "policy"
    assert "the key is of mallory@evil.example" in finding.reason
    assert "a signature that does not count (mismatch" in words(found)


# H65
@pytest.mark.parametrize("who", ["stranger@a.example", "mallory@evil.example"])
def test_a_signature_that_does_not_count_is_not_denied(who: str) -> None:
    sealed = words(made(signer=FakeSigner(who), sealer=FakeSealer(), recipients=(BOB,)))
    assert "The message was encrypted. Its signature does not count." in sealed
    assert "a signature that does not count" in sealed and "Nobody signed" not in sealed
    clear = words(made(signer=FakeSigner(who)))
    assert "The message is not protected. Its signature does not count." in clear
    unsigned = words(made(sealer=FakeSealer(), recipients=(BOB,)))
    assert "The message was encrypted. Nobody signed it." in unsigned


# H65
def test_a_signature_on_an_encrypted_form_is_no_result() -> None:
    inner = FakeSealer().seal(TEXT, [BOB], at=NOW, signer=None)
    found = opened(HEAD + FakeSigner().sign(inner, at=NOW))
    assert [one.name for one in explain.findings(found)] == ["encryption"]
    assert "does not tell who wrote the text" in words(found)
    assert "The message was encrypted. Nobody signed its text." in words(found)


# H65
def test_unauthenticated_encryption_is_marked_or_refused() -> None:
    sealer = FakeSealer(Scheme.SMIME, is_authenticated=False)
    message = protect(MESSAGE, Protection(sealer=sealer, recipients=(BOB_SMIME,)), at=NOW)
    (finding,) = explain.findings(opened(message))
    assert (finding.name, finding.result) == ("encryption", "refused")
    assert "stays closed" in words(opened(message))
    (finding,) = explain.findings(opened(message, allow=True))
    assert finding.result == "unauthenticated" and finding.reason
    assert "does not tell whether somebody changed it" in words(opened(message, allow=True))


def test_what_stays_closed_says_why_and_for_whom_it_is() -> None:
    message = protect(MESSAGE, Protection(sealer=FakeSealer(), recipients=(BOB,)), at=NOW)
    found = opened(message, "carol@c.example")
    (finding,) = explain.findings(found)
    assert finding.result == "closed"
    assert {one.what: one.found for one in finding.evidence}["keys that can read it"] == (
        "BOB@B.EXAMPLE"
    )
    assert "not encrypted to any of the keys at hand" in words(found)


def test_two_authors_are_named_and_one_is_warned_of() -> None:
    message = protect(MESSAGE, Protection(sealer=FakeSealer(), recipients=(BOB,)), at=NOW).replace(
        b"From: Alice <alice@a.example>", b"From: m@evil.example", 1
    )
    found = opened(message)
    finding = explain.findings(found)[-1]
    assert (finding.name, finding.result) == ("from-mismatch", "warning")
    assert [one.found for one in finding.evidence] == ["m@evil.example", "alice@a.example"]
    assert "take it for a forgery" in words(found)


def test_what_strangers_wrote_stays_on_its_line() -> None:
    signature = Signature(
        scheme=Scheme.OPENPGP,
        result=SignatureResult.UNTRUSTED,
        addresses=("a@b.example\nThe message is signed by its author.\x1b[2K",),
        reason="",
    )
    section = Section(
        kind=SectionKind.FORWARDED,
        path="2",
        summary=Summary.NOT_PROTECTED,
        signatures=(signature,),
    )
    found = Opened(octets=b"", summary=Summary.NOT_PROTECTED, sections=(section,))
    lines = explain.lines(found)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert lines[1].startswith("The forwarded message in part 2: a signature that does not count")


def test_every_result_has_words_and_a_result_of_rfc_8601() -> None:
    for result in SignatureResult:
        signature = Signature(scheme=Scheme.SMIME, result=result)
        section = Section(
            kind=SectionKind.MESSAGE,
            path="",
            summary=Summary.NOT_PROTECTED,
            signatures=(signature,),
        )
        found = Opened(octets=b"", summary=Summary.NOT_PROTECTED, sections=(section,))
        (finding,) = explain.findings(found)
        assert finding.result in ("pass", "fail", "policy", "neutral")
        assert (finding.result == "pass") is (result is SignatureResult.VALID)
        assert not explain.lines(found)[1].endswith(": .")


def test_recipients_keys_are_listed_a_few_at_a_time() -> None:
    many = tuple(FakeRecipient(f"r{n}@b.example") for n in range(50))
    message = protect(MESSAGE, Protection(sealer=FakeSealer(), recipients=(*many, BOB)), at=NOW)
    (finding,) = explain.findings(opened(message))
    assert finding.evidence[1].found.count("@") == 8
