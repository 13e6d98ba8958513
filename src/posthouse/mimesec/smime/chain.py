"""From a signer's certificate to a root that is trusted (RFC 5280 §6, RFC 8550 §4).

`x509.verification` of cryptography knows no Ed25519, so the path is built and checked here, over
its certificates. A stranger chooses most of them: depth, candidates and signature checks are
bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from posthouse.mimesec import given
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import algorithms, constraints, revocation
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.certificates import Certificate, name_for_people
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.revocation import Revocation
from posthouse.mimesec.trust import Pin, pinned_addresses

DEPTH_MAX: Final = 10
"""Certificates of a path, the signer's and the root included."""
CANDIDATES_MAX: Final = 100
"""Signatures on certificates that are checked for one answer."""
STEPS_MAX: Final = 200
"""Along paths, as authorities that certify each other make more paths than certificates."""
OFFERED_MAX: Final = 100
"""Certificates of a message that are looked at."""
_KNOWN_REVOKED: Final = "the certificate was revoked"

# Critical extensions that are dealt with, or that cannot make a path worse for us: without
# requireExplicitPolicy no policy has to be valid (RFC 5280 §6.1.1, §6.1.5).
UNDERSTOOD: Final = frozenset({
    ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.ISSUER_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES, ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.INHIBIT_ANY_POLICY, ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
})  # fmt: skip


class Trust:
    """Whom to believe: authorities and pinned certificates, with what helps to find the way."""

    def __init__(
        self,
        *,
        roots: Iterable[Certificate] = (),
        intermediates: Iterable[Certificate] = (),
        known: Iterable[Certificate] = (),
        revocations: Sequence[Revocation] = (),
        pins: Iterable[Pin] = (),
        revoked: Iterable[str] = (),
    ) -> None:
        """
        Args:
            roots: authorities, or certificates of correspondents that are trusted as they are.
            intermediates: help to get from a certificate to a root; not trusted.
            known: certificates seen before, for signers who send none; not trusted.
            revocations: CRLs and OCSP responses at hand.
            pins: certificates that are trusted as they are, also for a name of somebody's choice.
            revoked: fingerprints of certificates that are known to be revoked, whoever said so and
                whatever vouches for them.

        Raises:
            ProtectionError: something else than certificates was given.
        """
        self.roots = frozenset(given.all_of(roots, Certificate, "roots"))
        self.known = tuple(dict.fromkeys(given.all_of(known, Certificate, "known")))
        between = given.all_of(intermediates, Certificate, "intermediates")
        self.intermediates = tuple(dict.fromkeys((*between, *self.known)))
        self.revocations = tuple(revocations)
        self.pins = tuple(pins)
        self.revoked = frozenset(revoked)
        self._by_subject: dict[bytes, list[Certificate]] = {}
        for one in (*self.roots, *self.intermediates):
            self._by_subject.setdefault(one.subject, []).append(one)

    def is_anchor(self, certificate: Certificate) -> bool:
        return certificate in self.roots

    def pinned_addresses(self, certificate: Certificate) -> tuple[str, ...] | None:
        """What pins say that it is for; None where none is about it."""
        return pinned_addresses(self.pins, certificate.fingerprint, certificate.addresses)

    def issuers(
        self, certificate: Certificate, offered: Iterable[Certificate]
    ) -> list[Certificate]:
        """Those that may have issued it, roots first."""
        known = self._by_subject.get(certificate.issuer, ())
        found = [one for one in (*known, *offered) if certificate.is_issuer_named(one)]
        if not found:  # the same name in another spelling
            found = [
                one
                for one in (*self.roots, *self.intermediates)
                if certificate.is_issuer_named(one)
            ]
        return sorted(dict.fromkeys(found), key=lambda one: not self.is_anchor(one))


class PathCheck(msgspec.Struct, frozen=True, kw_only=True):
    """VALID with the path, or what is wrong with the best that was found."""

    result: SignatureResult
    reason: str = ""
    path: tuple[Certificate, ...] = ()
    addresses: tuple[str, ...] = ()
    """Of a VALID one: those that somebody vouches for. An authority does for what the certificate
    names, a pin for its own."""


def check_path(
    leaf: Certificate,
    trust: Trust,
    *,
    offered: Sequence[Certificate] = (),
    revocations: Sequence[Revocation] = (),
    at: datetime,
) -> PathCheck:
    """Whether a root or a pin vouches for a certificate at a time. What it may be used for is not
    asked here, except that it is for mail.

    Args:
        offered: certificates that came with it; nobody vouches for them.
        revocations: that came with it, beside those that `trust` knows. They can do no harm: only
            what an issuer has signed counts.
    """
    found = _found(leaf, trust, offered, (*trust.revocations, *revocations), at)
    if leaf.fingerprint in trust.revoked and found.result is not SignatureResult.REVOKED:
        return PathCheck(result=SignatureResult.REVOKED, reason=_KNOWN_REVOKED, path=(leaf,))
    return found


def _found(
    leaf: Certificate,
    trust: Trust,
    offered: Sequence[Certificate],
    known: Sequence[Revocation],
    at: datetime,
) -> PathCheck:
    if trust.is_anchor(leaf):
        return _own(leaf, known, at, leaf.addresses)
    pinned = trust.pinned_addresses(leaf)
    if pinned is None:
        return _by_authority(leaf, trust, offered, known, at)
    own = _own(leaf, known, at, pinned)
    if own.result is not SignatureResult.VALID:
        return own
    found = _by_authority(leaf, trust, offered, known, at)
    if found.result is SignatureResult.REVOKED:  # its issuer's word is newer than the pin
        return found
    both = tuple(dict.fromkeys((*pinned, *found.addresses)))
    return msgspec.structs.replace(own, addresses=both)


def _by_authority(
    leaf: Certificate,
    trust: Trust,
    offered: Sequence[Certificate],
    known: Sequence[Revocation],
    at: datetime,
) -> PathCheck:
    search = _Search(trust, offered[:OFFERED_MAX])
    worst: PathCheck | None = None
    for path in search.paths(leaf):
        found = _checked(path, trust.revoked, known, at)
        if found.result is SignatureResult.VALID:
            return found
        worst = worst or found
    return worst or search.failure(leaf)


def _own(
    leaf: Certificate, known: Sequence[Revocation], at: datetime, addresses: tuple[str, ...]
) -> PathCheck:
    """A certificate that is trusted as it is: only its dates and its own issuer's word count."""
    if why := leaf.why_not_valid(at):
        return PathCheck(
            result=SignatureResult.EXPIRED, reason=f"the certificate {why}", path=(leaf,)
        )
    if found := revocation.revoked(leaf, leaf, known, at):
        return PathCheck(
            result=SignatureResult.REVOKED, reason=f"the certificate {found}", path=(leaf,)
        )
    return PathCheck(result=SignatureResult.VALID, path=(leaf,), addresses=addresses)


class _Search:
    """Depth first over issuers, each edge a signature that was checked."""

    def __init__(self, trust: Trust, offered: Sequence[Certificate]) -> None:
        self._trust = trust
        self._offered = offered
        self._left = CANDIDATES_MAX
        self._edges: dict[tuple[Certificate, Certificate], bool] = {}
        self._refused = ""
        self._forged = ""
        self._lonely = ""

    def paths(self, leaf: Certificate) -> Iterator[tuple[Certificate, ...]]:
        stack: list[tuple[Certificate, ...]] = [(leaf,)]
        for _ in range(STEPS_MAX):
            if not stack:
                return
            path = stack.pop()
            last = path[-1]
            if len(path) > 1 and self._trust.is_anchor(last):
                yield path
                continue
            if len(path) == DEPTH_MAX:
                self._lonely = f"the path to its root is longer than {DEPTH_MAX} certificates"
                continue
            issuers = [one for one in self._trust.issuers(last, self._offered) if one not in path]
            if not issuers and not last.is_self_issued:
                named = name_for_people(last.issuer_name)
                self._lonely = self._lonely or f"the certificate of its issuer {named} is missing"
            stack.extend(
                (*path, issuer) for issuer in reversed(issuers) if self._is_edge(last, issuer)
            )

    def _is_edge(self, certificate: Certificate, issuer: Certificate) -> bool:
        edge = (certificate, issuer)
        if edge not in self._edges:
            if self._left == 0:
                return False
            self._left -= 1
            self._edges[edge] = self._is_signed(certificate, issuer)
        return self._edges[edge]

    def _is_signed(self, certificate: Certificate, issuer: Certificate) -> bool:
        if issuer.public_key is None:
            self._refused = f"the key of {issuer.name} is of a kind that is not known"
            return False
        if weak := algorithms.why_weak(issuer.public_key):
            self._refused = f"{weak} ({issuer.name})"
            return False
        try:
            is_signed = certificate.signed.is_signed_by(issuer.public_key)
        except UnsupportedForm as refused:
            self._refused = f"the certificate of {certificate.name}: {refused}"
            return False
        except BadStructure:
            is_signed = False
        if not is_signed:
            self._forged = f"the certificate of {certificate.name} was not signed by {issuer.name}"
        return is_signed

    def failure(self, leaf: Certificate) -> PathCheck:
        if self._left == 0:
            reason = f"no way to a root among the first {CANDIDATES_MAX} certificates tried"
            return PathCheck(result=SignatureResult.UNTRUSTED, reason=reason)
        if self._refused:
            return PathCheck(result=SignatureResult.UNSUPPORTED, reason=self._refused)
        reason = self._forged or self._lonely
        if not reason and leaf.is_self_issued:
            reason = "the certificate is self-signed, and nobody vouches for it"
        return PathCheck(
            result=SignatureResult.UNTRUSTED, reason=reason or "its root is not one that is trusted"
        )


def _checked(
    path: tuple[Certificate, ...],
    known_revoked: frozenset[str],
    known: Sequence[Revocation],
    at: datetime,
) -> PathCheck:
    """All of RFC 5280 §6.1 that remains once the signatures are good."""
    for one, issuer in pairwise(path):
        if found := revocation.revoked(one, issuer, known, at):
            reason = f"the certificate of {one.name} {found}"
            return PathCheck(result=SignatureResult.REVOKED, reason=reason, path=path)
    for one in path:
        if one.fingerprint in known_revoked:
            reason = f"the certificate of {one.name} was revoked"
            return PathCheck(result=SignatureResult.REVOKED, reason=reason, path=path)
    for one in path:
        if why := one.why_not_valid(at):
            reason = f"the certificate of {one.name} {why}"
            return PathCheck(result=SignatureResult.EXPIRED, reason=reason, path=path)
    reason = _why_unfit(path) or _why_constrained(path)
    if reason:
        return PathCheck(result=SignatureResult.UNTRUSTED, reason=reason, path=path)
    return PathCheck(result=SignatureResult.VALID, path=path, addresses=path[0].addresses)


def _why_unfit(path: tuple[Certificate, ...]) -> str:
    below = 0  # certificates of authorities between, that are not self-issued
    for number, one in enumerate(path):
        if why := _why_not_understood(one):
            return why
        if number == 0:
            if why := one.why_not_mail():
                return f"the certificate {why}"
            continue
        if why := _why_no_authority(one, below, is_root=number == len(path) - 1):
            return why
        if not one.is_self_issued:
            below += 1
    return ""


def _why_not_understood(certificate: Certificate) -> str:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in UNDERSTOOD:
            number = extension.oid.dotted_string
            return f"the certificate of {certificate.name} has the critical extension {number}"
        if (
            isinstance(extension.value, x509.PolicyConstraints)
            and extension.value.require_explicit_policy is not None
        ):
            return (
                f"the certificate of {certificate.name} demands a policy, which is not judged here"
            )
    return ""


def _why_no_authority(certificate: Certificate, below: int, *, is_root: bool) -> str:
    name = certificate.name
    basic = certificate.extension(x509.BasicConstraints)
    if (basic is None and not is_root) or (basic is not None and not basic.ca):
        return f"{name} is no authority (basicConstraints)"
    if basic is not None and basic.path_length is not None and below > basic.path_length:
        return f"{name} allows no more than {basic.path_length} authorities below it"
    usage = certificate.extension(x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return f"{name} may not sign certificates (keyUsage)"
    if not is_root and (why := certificate.why_not_mail()):
        return f"{name} {why}"
    return ""


def _why_constrained(path: tuple[Certificate, ...]) -> str:
    comparisons = constraints.Comparisons()
    try:
        for number in range(1, len(path)):
            for below in range(number):
                if below and path[below].is_self_issued:
                    continue  # RFC 5280 §6.1.3 (b)
                if why := constraints.why_not_permitted(path[number], path[below], comparisons):
                    return why
    except constraints.TooMany:
        return "the certificates have too many names and name constraints"
    return constraints.unknown_kinds(path)
