"""What a session's TLS is worth under the policies of its host, once the handshake is over or has
failed: whether mail may go, in which words it is recorded, what reports say (RFC 8460 §4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509

from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.net.stream import TlsFailure, TlsTrouble
from posthouse.relay.plan import HostPolicy
from posthouse.tls import dane
from posthouse.tls.names import matches, presented
from posthouse.tls.peers import Flaw, Verification, Verifier

_MISMATCHES: Final = {
    dane.Mismatch.NONE: ResultType.SUCCESS,
    dane.Mismatch.NO_MATCH: ResultType.CERTIFICATE_NOT_TRUSTED,
    dane.Mismatch.NAME: ResultType.CERTIFICATE_HOST_MISMATCH,
    dane.Mismatch.EXPIRED: ResultType.CERTIFICATE_EXPIRED,
    dane.Mismatch.MALFORMED: ResultType.VALIDATION_FAILURE,
}
_FLAWS: Final = {
    Flaw.NONE: ResultType.SUCCESS,
    Flaw.EXPIRED: ResultType.CERTIFICATE_EXPIRED,
    Flaw.NAME: ResultType.CERTIFICATE_HOST_MISMATCH,
    Flaw.UNTRUSTED: ResultType.CERTIFICATE_NOT_TRUSTED,
}
_VERIFY_CODES: Final = {
    9: ResultType.CERTIFICATE_EXPIRED,  # X509_V_ERR_CERT_NOT_YET_VALID
    10: ResultType.CERTIFICATE_EXPIRED,  # X509_V_ERR_CERT_HAS_EXPIRED
    62: ResultType.CERTIFICATE_HOST_MISMATCH,  # X509_V_ERR_HOSTNAME_MISMATCH
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """How one policy fared."""

    policy: PolicyType
    result: ResultType
    words: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Of one session."""

    problem: str = ""
    """Why no mail may go, in words; "" when it may."""
    certificate: str = ""
    """What the certificate is worth, for people; "" without TLS."""
    is_verified: bool = False
    findings: tuple[Finding, ...] = ()


def judge(
    policy: HostPolicy, chain: Sequence[bytes], name: str, now: datetime, verifier: Verifier
) -> Verdict:
    """After a handshake that succeeded; where the policy asks for a trusted chain, OpenSSL has
    checked it in the handshake, and the names are checked here.

    Args:
        chain: the peer's certificates in DER, leaf first.
        name: the host's, for the record of what nobody asked for.
        now: aware UTC.
    """
    seen = _verified(policy, chain) or verifier.verify(chain, name, now)
    findings: list[Finding] = []
    problems: list[str] = []
    proof = ""
    if policy.tlsa:
        matched = dane.verify(policy.tlsa, chain, policy.tlsa_names, now)
        words = "" if matched.is_authenticated else matched.words
        findings.append(_finding(PolicyType.TLSA, _MISMATCHES[matched.mismatch], words))
        problems += [words] if words else []
        proof = matched.words if matched.is_authenticated else ""
    elif policy.tlsa_base:
        findings.append(_finding(PolicyType.TLSA, ResultType.TLSA_INVALID, NO_USABLE))
    if policy.sts is not None:
        findings.append(_finding(PolicyType.STS, _FLAWS[seen.flaw], seen.reason))
    if policy.has_trusted_chain and not seen.is_verified:
        problems.append(seen.reason)
    if not findings:
        result = _FLAWS[seen.flaw] if problems else ResultType.SUCCESS
        findings.append(_finding(PolicyType.NONE, result, "; ".join(problems)))
    return Verdict(
        problem="; ".join(problems),
        certificate=_words(seen, proof),
        is_verified=seen.is_verified or bool(proof),
        findings=tuple(findings),
    )


NO_USABLE: Final = "none of the TLSA records is usable"


def _verified(policy: HostPolicy, chain: Sequence[bytes]) -> Verification | None:
    """Where OpenSSL has checked the chain: whether the certificate is for the right names."""
    if not policy.has_trusted_chain or not chain:
        return None
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        found = presented(leaf)
    except Exception:  # the parser's errors have no common class
        found = ()
    for names in policy.names:
        if not any(_covers(identifier, name) for identifier in found for name in names):
            words = f"the peer's certificate is not for {' or '.join(names)}"
            return Verification(is_verified=False, reason=words, flaw=Flaw.NAME)
    return Verification(is_verified=True, reason="")


def _covers(identifier: str, name: str) -> bool:
    """`name` may be a pattern of ours, for one label."""
    if name.startswith("*."):
        return identifier == name or matches(name, identifier)
    return matches(identifier, name)


def _words(seen: Verification, proof: str) -> str:
    if proof:
        return f"verified by DANE ({proof})"
    return "verified" if seen.is_verified else f"not verified: {seen.reason}"


def without_tls(policy: HostPolicy, words: str) -> Verdict:
    """The host does not offer STARTTLS, or refuses it."""
    problem = "" if policy.allows_plaintext else words
    return _failed(policy, problem, ResultType.STARTTLS_NOT_SUPPORTED, words)


def broken_handshake(policy: HostPolicy, failure: TlsFailure) -> Verdict:
    """TLS was begun and came to nothing."""
    result = ResultType.VALIDATION_FAILURE
    if failure.trouble is TlsTrouble.CERTIFICATE and failure.verify_code:
        result = _VERIFY_CODES.get(failure.verify_code, ResultType.CERTIFICATE_NOT_TRUSTED)
    return _failed(policy, failure.text, result, failure.text)


def _failed(policy: HostPolicy, problem: str, result: ResultType, words: str) -> Verdict:
    kinds = applied(policy) or (PolicyType.NONE,)
    return Verdict(problem=problem, findings=tuple(_finding(kind, result, words) for kind in kinds))


def applied(policy: HostPolicy) -> tuple[PolicyType, ...]:
    """The destination's own policies that count for a host."""
    found = []
    if policy.tlsa_base:
        found.append(PolicyType.TLSA)
    if policy.sts is not None:
        found.append(PolicyType.STS)
    return tuple(found)


def _finding(policy: PolicyType, result: ResultType, words: str) -> Finding:
    return Finding(policy=policy, result=result, words=words)
