"""What was found about the protection of a message, in plain words and as findings.

A result named "smime" (RFC 7281) or "x-openpgp" is about the whole message, so only that goes into
Authentication-Results: who reads "pass" there may look no further (H65). What is known of parts has
names of its own, for the decision record and `posthouse check mail`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from posthouse.kernel.finding import Evidence, Finding, Property
from posthouse.message import words
from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
from posthouse.mimesec.header_protection import FieldState
from posthouse.mimesec.opening import Opened, Section, SectionKind, Summary

METHODS: Final = {Scheme.SMIME: "smime", Scheme.OPENPGP: "x-openpgp"}
"""Methods of results about a whole message (RFC 8601 §2.7)."""
PART: Final = "protected-part"
ENCRYPTION: Final = "encryption"
FROM_MISMATCH: Final = "from-mismatch"

# RFC 8601 §2.7.1's words: "policy" is a good signature that is not accepted, "neutral" one of which
# nothing is known.
_RESULTS: Final = {
    SignatureResult.VALID: "pass",
    SignatureResult.MISMATCH: "policy",
    SignatureResult.UNTRUSTED: "policy",
    SignatureResult.UNSUPPORTED: "policy",
    SignatureResult.EXPIRED: "fail",
    SignatureResult.REVOKED: "fail",
    SignatureResult.INVALID: "fail",
    SignatureResult.NO_KEY: "neutral",
}
_FIELDS_SHOWN: Final = 20


# --- findings ---


def findings(opened: Opened, *, is_shown: bool = True) -> tuple[Finding, ...]:
    """One for each signature and each encryption, and one where two authors are named.

    Args:
        is_shown: what `opened` has is what people will see. Else they see the message as it came:
            then a signature of the author inside says nothing of the other one who stands outside,
            and is no "pass".
    """
    mismatch = opened.from_mismatch
    hides = not is_shown and mismatch is not None and not opened.has_outer_from
    found = [one for section in opened.sections for one in _of_section(section)]
    if hides:
        found = [_of_another(one) for one in found]
    if mismatch is not None:
        is_outer = hides or opened.has_outer_from
        where = "outside" if is_outer else "inside"
        found.append(
            Finding(
                name=FROM_MISMATCH,
                result="warning" if is_outer else "signed",
                reason=f"the author inside is another than outside; the one {where} is shown",
                evidence=(
                    Evidence("From outside", ", ".join(mismatch.outer)),
                    Evidence("From inside", ", ".join(mismatch.inner)),
                ),
            )
        )
    return tuple(found)


def _of_another(finding: Finding) -> Finding:
    if finding.name not in METHODS.values() or finding.result != _RESULTS[SignatureResult.VALID]:
        return finding
    result = _RESULTS[SignatureResult.MISMATCH]
    reason = "it is signed by the author inside, and the one who is shown is another"
    return msgspec.structs.replace(finding, result=result, reason=reason)


def _of_section(section: Section) -> Iterator[Finding]:
    is_whole = section.kind is SectionKind.MESSAGE
    where = _where(section)
    # What is on an encrypted form proves nobody's text, and may not pass for it.
    signed = section.signatures if section.summary is not Summary.BROKEN else ()
    for one in signed:
        yield Finding(
            name=METHODS[one.scheme] if is_whole else PART,
            result=_RESULTS[one.result],
            reason=one.reason if is_whole else f"{where}: {one.reason or 'signed'}",
            properties=tuple(_properties(one, section.path or "1")) if is_whole else (),
            evidence=tuple(_signature_evidence(one)),
        )
    for encryption in section.encryptions:
        yield Finding(
            name=ENCRYPTION if is_whole else PART,
            result=_encryption_result(section, encryption),
            reason=_encryption_reason(section, encryption, where),
            evidence=tuple(_encryption_evidence(encryption)),
        )


def _properties(signature: Signature, path: str) -> Iterator[Property]:
    if signature.scheme is Scheme.OPENPGP:
        for address in signature.addresses[:1]:
            yield Property("body", "openpgp-identifier", address)
        if signature.key:
            yield Property("body", "openpgp-key", signature.key)
        return
    for address in signature.addresses[:1]:
        yield Property("body", "smime-identifier", address)
    yield Property("body", "smime-part", path)
    if signature.certificates:
        # Certificates come with S/MIME only, and so does what reads them.
        from posthouse.mimesec.smime.certificates import Certificate, shown_name
        from posthouse.mimesec.smime.der import BadStructure

        try:
            certificate = Certificate(signature.certificates[0])
        except BadStructure:
            return
        yield Property("body", "smime-serial", f"{certificate.serial:X}")
        yield Property("body", "smime-issuer", shown_name(certificate.issuer))


def _signature_evidence(signature: Signature) -> Iterator[Evidence]:
    if signature.key:
        yield Evidence("key", signature.key)
    if signature.addresses:
        yield Evidence("addresses of the key", ", ".join(signature.addresses[:8]))
    if signature.algorithm:
        yield Evidence("algorithm", signature.algorithm)
    if signature.made_at is not None:
        yield Evidence("made at", f"{signature.made_at:%Y-%m-%d %H:%M:%S %Z}".rstrip())


def _encryption_evidence(encryption: Encryption) -> Iterator[Evidence]:
    if encryption.algorithm:
        yield Evidence("algorithm", encryption.algorithm)
    if encryption.recipients:
        yield Evidence("keys that can read it", ", ".join(encryption.recipients[:8]))


def _encryption_result(section: Section, encryption: Encryption) -> str:
    if not encryption.is_opened:
        return "closed"
    if section.summary is Summary.BROKEN:
        return "refused"
    return "opened" if encryption.is_authenticated else "unauthenticated"


def _encryption_reason(section: Section, encryption: Encryption, where: str) -> str:
    reason = encryption.reason or (section.reason if section.summary is Summary.BROKEN else "")
    if not reason and not encryption.is_authenticated:
        reason = "its form does not tell of changes on its way"
    if section.kind is SectionKind.MESSAGE:
        # A result has some words behind it, wherever it is shown.
        return reason or ("decrypted, and unchanged on its way" if encryption.is_opened else "")
    return f"{where}: {reason or 'encrypted'}"


# --- words ---


def lines(opened: Opened) -> list[str]:
    """For people: what the message is, then each section, then its header fields; each on a line of
    its own, whatever strangers wrote."""
    return [words.shown(line) for line in _lines(opened)]


def _lines(opened: Opened) -> list[str]:
    found = [_summary(opened)]
    for section in opened.sections:
        found += _section_lines(section)
    mismatch = opened.from_mismatch
    if mismatch is not None:
        outer, inner = ", ".join(mismatch.outer) or "nobody", ", ".join(mismatch.inner)
        found.append(f"Outside it says to be from {outer}, inside from {inner}.")
        if opened.has_outer_from:
            found.append("No valid signature is the inner author's: take it for a forgery.")
        elif opened.whole is not None and not opened.whole.encryptions:
            found.append("The signature is the inner author's; many programs show the outer one.")
    found += _field_lines(opened)
    return found


_SUMMARIES: Final = {
    Summary.NOT_PROTECTED: "The message is not protected.",
    Summary.SIGNED: "The message is signed by its author.",
    Summary.ENCRYPTED: "The message was encrypted.",
    Summary.SIGNED_AND_ENCRYPTED: "The message was encrypted, and is signed by its author.",
    Summary.PARTLY: "The message is not protected; some of its parts are, and only those.",
    Summary.BROKEN: "The message is encrypted and stays closed.",
}


def _summary(opened: Opened) -> str:
    """What the sections say of signatures is not denied here."""
    said, whole = _SUMMARIES[opened.summary], opened.whole
    if whole is None or opened.summary not in (Summary.ENCRYPTED, Summary.NOT_PROTECTED):
        return said
    if whole.signatures:
        is_one = len(whole.signatures) == 1
        return (
            f"{said} {'Its signature does not' if is_one else 'None of its signatures does'} count."
        )
    if opened.summary is Summary.NOT_PROTECTED:
        return said
    return f"{said} Nobody signed {'its text' if whole.outer_signatures else 'it'}."


def _section_lines(section: Section) -> Iterator[str]:
    where = _where(section)
    if section.kind is not SectionKind.MESSAGE:
        where = where[0].upper() + where[1:]
    else:
        where = "The whole message"
    for encryption in section.encryptions:
        how = f" with {encryption.algorithm}" if encryption.algorithm else ""
        state = _encryption_result(section, encryption)
        reason = encryption.reason or section.reason
        match state:
            case "opened":
                yield f"{where}: decrypted ({encryption.scheme.value}{how})."
            case "unauthenticated":
                yield (
                    f"{where}: decrypted ({encryption.scheme.value}{how}), but this form does not"
                    " tell whether somebody changed it on its way."
                )
            case _:
                yield f"{where}: encrypted ({encryption.scheme.value}{how}), {reason}."
    if section.summary is Summary.BROKEN and not section.encryptions:
        yield f"{where}: {section.reason}."
    elif section.summary is not Summary.BROKEN:
        for signature in section.signatures:
            yield f"{where}: {_signature_words(signature)}"
    for signature in section.outer_signatures:
        yield (
            f"{where}: its encrypted form is signed, which does not tell who wrote the text"
            f" ({signature.result.value})."
        )


def _signature_words(signature: Signature) -> str:
    owner = ", ".join(signature.addresses[:4]) or "an unknown key"
    how = (
        f"{signature.scheme.value}, {signature.algorithm}"
        if signature.algorithm
        else (signature.scheme.value)
    )
    if signature.result is SignatureResult.VALID:
        when = f" on {signature.made_at:%Y-%m-%d %H:%M}" if signature.made_at else ""
        return f"validly signed by {owner}{when} ({how})."
    return f"a signature that does not count ({signature.result.value}, {how}): {_why(signature)}."


def _why(signature: Signature) -> str:
    return signature.reason or {
        SignatureResult.MISMATCH: "its key names another address than From",
        SignatureResult.UNTRUSTED: "nobody vouches for its key",
        SignatureResult.EXPIRED: "its key was not valid then",
        SignatureResult.REVOKED: "its key was revoked",
        SignatureResult.NO_KEY: "its key is not at hand",
        SignatureResult.INVALID: "the text was changed, or another key made it",
        SignatureResult.UNSUPPORTED: "it is of a kind that is not accepted",
    }.get(signature.result, "")


def _field_lines(opened: Opened) -> Iterator[str]:
    if opened.header_scheme is None:
        if opened.whole is not None and opened.whole.summary is not Summary.BROKEN:
            yield "Subject, From and the other header fields are not protected."
        return
    names: dict[FieldState, list[str]] = {}
    for field in opened.fields:
        shown = names.setdefault(field.state, [])
        if field.name not in shown and len(shown) < _FIELDS_SHOWN:
            shown.append(field.name)
    for state, shown in names.items():
        yield f"Header fields {state.value}: {', '.join(shown)}."


def _where(section: Section) -> str:
    match section.kind:
        case SectionKind.MESSAGE:
            return "the whole message"
        case SectionKind.FORWARDED:
            return f"the forwarded message in part {section.path}"
        case SectionKind.TEXT:
            return f"a text in part {section.path}"
        case SectionKind.PART:
            return f"part {section.path}"
