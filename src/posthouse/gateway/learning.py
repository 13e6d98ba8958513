"""What arriving mail teaches about its authors' keys, so that they can be answered encrypted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache

import msgspec

from posthouse.accounts import key_material, mail_keys, smime_material
from posthouse.accounts.mail_keys import KeyMaterial, MailKey, Source, fold_address
from posthouse.kernel.errors import UserError
from posthouse.message.dates import parse_date
from posthouse.message.fields import read_section
from posthouse.mimesec.findings import Scheme, Signature, SignatureResult
from posthouse.mimesec.opening import Opened
from posthouse.mimesec.pgp import autocrypt
from posthouse.mimesec.pgp.autocrypt import Autocrypt
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.identity import read_certificates
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.store.transaction import Transaction

CERTIFICATES_MAX = 10
"""Of one signature."""


class Learnt(msgspec.Struct, frozen=True):
    """A unit of work that keeps keys; false where there is none."""

    materials: tuple[tuple[KeyMaterial, Source], ...]

    def __bool__(self) -> bool:
        return bool(self.materials)

    def is_known(self, tx: Transaction) -> bool:
        """Whether the store has all of them as they are: most mail teaches nothing new."""
        return all(
            _is_kept(tx, material) or _is_outdone(tx, material, source)
            for material, source in self.materials
        )

    def __call__(self, tx: Transaction) -> None:
        for material, source in self.materials:
            if _is_outdone(tx, material, source):
                continue
            # Whoever vouched for it has to do so again with the next signature: it may be revoked.
            mail_keys.add_found(tx, material, source=source, is_trusted=False)


def _is_outdone(tx: Transaction, material: KeyMaterial, source: Source) -> bool:
    """Whether somebody has said something newer of their key: an old message sent again brings no
    old key back."""
    if source is not Source.AUTOCRYPT:
        return False
    said_at = material.said_at or 0
    return any(
        key.source is source and (key.said_at or 0) > said_at
        for address in material.addresses
        for key in mail_keys.by_address(tx, address)
        if key.scheme is material.scheme and key.fingerprint != material.fingerprint
    )


def _is_kept(tx: Transaction, material: KeyMaterial) -> bool:
    """Whether the store has it as it is. Asked for by its fingerprint: an own key may count for
    none of the addresses that it names."""
    key = mail_keys.by_fingerprint(tx, material.scheme, material.fingerprint)
    if key is None or _is_news(material, key):
        return False
    if key.is_own:  # which what it shows of itself changes in one way alone
        return key.revoked_at is not None or not material.is_revoked
    return key.public == material.public and any(
        address in key.addresses for address in map(fold_address, material.addresses)
    )


def _is_news(material: KeyMaterial, key: MailKey) -> bool:
    """Whether it is from later than what is known of the key: by that the keys of somebody are
    ordered (`mail_keys.by_address`), and what their program decrypts is believed. Of an own key the
    second matters alone."""
    if key.is_own and not material.reads:
        return False
    return material.said_at is not None and material.said_at > (key.said_at or 0)


def learn(opened: Opened, *, roots: tuple[bytes, ...], at: datetime) -> Learnt:
    """The certificates of valid signatures on a whole message (RFC 8551 §2.5.3, RFC 8550 §2.3): the
    signer's own, and where it is for signatures only, another that came with it, names the same
    address and leads to an authority. For a worker."""
    found: list[tuple[KeyMaterial, Source]] = []
    whole = opened.whole
    for signature in whole.signatures if whole is not None else ():
        is_ours = signature.scheme is Scheme.SMIME and signature.certificates
        if is_ours and signature.result is SignatureResult.VALID:
            certificates = _certificates(signature.certificates)
            if (material := _to_encrypt(certificates, signature, roots, at)) is not None:
                found.append((material, Source.LEARNT))
    return Learnt(tuple(found))


def revoked_signers(opened: Opened) -> tuple[KeyMaterial, ...]:
    """The certificates whose signatures do not count because they are revoked, to be remembered for
    the time when their issuer cannot be asked. For a worker."""
    found: list[KeyMaterial] = []
    for section in opened.sections:
        for one in section.signatures:
            if one.result is SignatureResult.REVOKED and one.certificates:
                with contextlib.suppress(UserError):
                    found.append(
                        smime_material.of_certificates(_certificates(one.certificates[:1]))
                    )
    return tuple(found)


def learn_autocrypt(octets: bytes, *, at: datetime) -> Learnt:
    """The author's key in a header field that is known to be the author's.

    Args:
        at: now: a message is never from later than that, whatever its date says.
    """
    section = read_section(octets)
    found = autocrypt.read(section) if autocrypt.FIELD in section else None
    if found is None:
        return Learnt(())
    date = section.raw(b"date")
    written = parse_date(date) if date is not None else None
    said_at = int(min(written or at, at).timestamp() * 1e6)
    return Learnt(
        tuple(
            (msgspec.structs.replace(material, said_at=said_at), Source.AUTOCRYPT)
            for material in _of_autocrypt([found])
        )
    )


def _of_autocrypt(fields: Iterable[Autocrypt]) -> Iterator[KeyMaterial]:
    for one in fields:
        address = fold_address(one.address)
        try:
            read = key_material.read_found(Scheme.OPENPGP, one.key)
        except UserError:
            continue
        for material in read[:1]:
            if address in map(fold_address, material.addresses):
                yield msgspec.structs.replace(material, addresses=(address,))


def _to_encrypt(
    certificates: Sequence[Certificate],
    signature: Signature,
    roots: tuple[bytes, ...],
    at: datetime,
) -> KeyMaterial | None:
    believed = set(map(fold_address, signature.addresses))
    for one in sorted(certificates, key=lambda one: one.fingerprint != signature.preferred):
        # What the signer's own names beside that is nobody's word but its maker's.
        named = [each for each in one.addresses if fold_address(each) in believed]
        if not named:
            continue
        # The signer's own is proven by the signature; any other has to prove itself.
        trust = None if one is certificates[0] else trust_in(roots)
        if not SmimeRecipient(one, trust=trust, offered=tuple(certificates)).why_unusable(at):
            issuers = [each for each in certificates if each is not one]
            try:
                material = smime_material.of_certificates([one, *issuers])
            except UserError:
                return None
            # Whoever chooses the time may not put it so far ahead that nothing newer ever counts,
            # and without a time it is only known that the certificate was there already: as it
            # arrives would be as of now, each time that it is sent again.
            said_at = min(signature.made_at or one.not_before, at)
            return msgspec.structs.replace(
                material,
                addresses=tuple(named),
                reads=signature.reads,
                said_at=int(said_at.timestamp() * 1e6),
            )
    return None


def _certificates(octets: Iterable[bytes]) -> list[Certificate]:
    found = []
    for one in tuple(octets)[:CERTIFICATES_MAX]:
        try:
            found.append(Certificate(one))
        except BadStructure:
            if not found:  # the signer's comes first
                return []
    return found


@lru_cache(maxsize=2)
def trust_in(roots: tuple[bytes, ...]) -> Trust:
    """Authorities in PEM; what cannot be read is left out."""
    found: list[Certificate] = []
    for octets in roots:
        try:
            found += read_certificates(octets)
        except ProtectionError:
            continue
    return Trust(roots=found)
