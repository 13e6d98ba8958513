"""What Thunderbird shows of our mail: signed and encrypted by S/MIME and OpenPGP.

    python -m tests.interop.thunderbird [--pictures FOLDER]

Starts Thunderbird under Xvfb with a profile of its own that holds test keys, opens messages that
the library made, and reads the marks and words it shows through its remote control (Marionette),
not from pixels; pictures are for people. Messages that were changed, or that nobody vouches for,
show that it can say no. Not part of the test run: it takes a minute, and wants Debian's
`thunderbird xvfb imagemagick libnss3-tools`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_der_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_der_x509_certificate

from posthouse.mimesec import Protection
from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, PgpSigner, PrivateKey, make_key
from posthouse.mimesec.smime import (
    Cipher,
    Identity,
    KeyKind,
    SmimeRecipient,
    SmimeSealer,
    SmimeSigner,
    make_authority,
    make_identity,
)
from posthouse.sending import Attachment, Message, Transport
from tests.interop.thunderbird_control import (
    BOB,
    CLOSE,
    IMPORT_PGP,
    MARKS,
    OPEN,
    PASSWORD,
    PROGRAMS,
    picture,
    started,
)

ADA = "ada@example.org"
CHANGED = "The treasure is under the elm."
TEXT = "The treasure is under the oak."
SUBJECT = "Map"
HIDDEN = "[...]"
"""It knows no header protection of S/MIME; the real subject stands above the text."""
OPEN_TEXT, SEALED = "Message Is Not Encrypted", "Message Is Encrypted"
INVALID = "Digital Signature Is Not Valid"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A message, and what Thunderbird has to show of it."""

    title: str
    octets: bytes
    signed: str = ""
    """The icon beside the subject. A signature that is not valid has none, in the open."""
    encrypted: str = ""
    words: str
    """Of its panel about the message's security."""
    text: str = TEXT
    """ "" where the message cannot be opened."""
    subject: str = SUBJECT

    def is_right(self, seen: Mapping[str, str]) -> bool:
        is_shown = (self.text or TEXT) in seen.get("body", "")
        marks = {
            "signed": self.signed,
            "encrypted": self.encrypted,
            "words": self.words,
            "subject": self.subject,
        }
        return is_shown == bool(self.text) and marks.items() <= seen.items()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, help="where to put what it looked like")
    asked = parser.parse_args()
    missing = [one for one in PROGRAMS if shutil.which(one) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 69
    failed = 0
    with tempfile.TemporaryDirectory(prefix="posthouse-thunderbird-") as name:
        folder = Path(name)
        cases = made(folder)
        with started(folder) as (remote, display):
            told = remote.run(
                IMPORT_PGP,
                (folder / "bob.asc").read_text(),
                (folder / "ada.asc").read_text(),
                ADA,
            )
            print(f"OpenPGP keys imported: {told}")
            for case in cases:
                path = folder / f"{case.title}.eml"
                path.write_bytes(case.octets)
                remote.run(OPEN, str(path))
                seen = json.loads(remote.run(MARKS))
                if asked.pictures is not None:
                    picture(asked.pictures / f"thunderbird-{case.title}.png", display)
                remote.run(CLOSE)
                failed += not case.is_right(seen)
                print(f"{'ok  ' if case.is_right(seen) else 'FAIL'} {case.title}: {seen}")
    return 1 if failed else 0


def made(folder: Path) -> list[Case]:
    """Messages from Ada to Bob, whose keys are written into the folder."""
    at = datetime.now(UTC) - timedelta(minutes=5)
    root = make_authority("Example Authority", at=at, days=300)
    people = {
        kind: tuple(
            make_identity([who], at=at, days=90, kind=kind, issuer=root) for who in (ADA, BOB)
        )
        for kind in (KeyKind.P256, KeyKind.RSA2048)
    }
    (folder / "ca.pem").write_bytes(root.certificates_pem())
    for number, (_, reader) in enumerate(people.values()):
        (folder / f"bob{number}.p12").write_bytes(pkcs12(reader))
    ada, _ = make_key([ADA], at=at, days=90, name="Ada")
    bob, _ = make_key([BOB], at=at, days=90, name="Bob")
    (folder / "ada.asc").write_bytes(ada.public.armored())
    (folder / "bob.asc").write_bytes(bob.armored(None))
    cases = [case for kind, pair in people.items() for case in by_smime(kind, *pair)]
    stranger = make_identity([ADA], at=at, days=90)
    eve = make_identity(["eve@example.org"], at=at, days=90, issuer=root)
    return [
        *cases,
        Case(
            title="smime-nobody-vouches",
            octets=letter(Protection(signer=SmimeSigner(stranger))),
            words=f"{INVALID}. {OPEN_TEXT}",
        ),
        Case(
            title="smime-of-another-address",
            octets=letter(Protection(signer=SmimeSigner(eve), allows_other_author=True)),
            words=f"Message is signed. {OPEN_TEXT}",  # and below, that it is not Ada's
        ),
        *by_openpgp(ada, bob),
    ]


def by_smime(kind: KeyKind, own: Identity, reader: Identity) -> list[Case]:
    signer, to = SmimeSigner(own), SmimeRecipient(reader.certificate)
    name = kind.value.lower().replace(" ", "").replace("-", "")
    signed = letter(Protection(signer=signer))
    sealed = Protection(sealer=SmimeSealer(), recipients=(to,))
    both = Protection(signer=signer, sealer=SmimeSealer(), recipients=(to,))
    new = Protection(signer=signer, sealer=SmimeSealer(cipher=Cipher.AES_256_GCM), recipients=(to,))
    return [
        Case(
            title=f"smime-signed-{name}",
            octets=signed,
            signed="ok",
            words=f"Message Is Signed. {OPEN_TEXT}",
        ),
        Case(
            title=f"smime-encrypted-{name}",
            octets=letter(sealed),
            encrypted="ok",
            words=f"Message Has No Digital Signature. {SEALED}",
            subject=HIDDEN,
        ),
        Case(
            title=f"smime-sealed-{name}",
            octets=letter(both),
            signed="ok",
            encrypted="ok",
            words=f"Message Is Signed. {SEALED}",
            subject=HIDDEN,
        ),
        Case(
            title=f"smime-changed-{name}",
            octets=changed(signed),
            words=f"{INVALID}. {OPEN_TEXT}",
            text=CHANGED,
        ),
        # It shows an empty page for AuthEnvelopedData (RFC 5083). When it learns to read that,
        # this fails, and what `SmimeSealer` takes by itself may change.
        Case(title=f"smime-gcm-{name}", octets=letter(new), words="", text="", subject=HIDDEN),
    ]


def by_openpgp(ada: PrivateKey, bob: PrivateKey) -> list[Case]:
    signer, to = PgpSigner(ada), PgpRecipient(bob.public)
    signed = letter(Protection(signer=signer))
    sealed = Protection(sealer=PgpSealer(), recipients=(to,))
    both = Protection(signer=signer, sealer=PgpSealer(), recipients=(to,))
    return [
        Case(
            title="openpgp-signed",
            octets=signed,
            signed="verified",
            words=f"Good Digital Signature. {OPEN_TEXT}",
        ),
        Case(
            title="openpgp-encrypted",
            octets=letter(sealed),
            encrypted="ok",
            words=f"No Digital Signature. {SEALED}",
        ),
        Case(
            title="openpgp-sealed",
            octets=letter(both),
            signed="verified",
            encrypted="ok",
            words=f"Good Digital Signature. {SEALED}",
        ),
        Case(
            title="openpgp-changed",
            octets=changed(signed),
            words=f"Invalid Digital Signature. {OPEN_TEXT}",
            text=CHANGED,
        ),
    ]


def changed(octets: bytes) -> bytes:
    """A signed message whose text somebody has written anew on its way."""
    assert octets.count(TEXT.encode()) == 1
    return octets.replace(TEXT.encode(), CHANGED.encode())


def letter(wish: Protection) -> bytes:
    """As the library sends it."""
    message = Message(
        sender=f"Ada Lovelace <{ADA}>",
        to=f"Bob <{BOB}>",
        subject=SUBJECT,
        text=f"{TEXT}\n",
        attachments=[Attachment(content=b"\x89PNG", filename="Übersicht.png")],
        protection=wish,
    )
    with Transport("memory:") as way:
        way.send(message)
        return way.letters[-1].octets


def pkcs12(identity: Identity) -> bytes:
    key: Any = load_der_private_key(identity.key_octets(), None)
    own, *chain = (
        load_der_x509_certificate(one.octets) for one in (identity.certificate, *identity.chain)
    )
    return serialize_key_and_certificates(
        b"bob", key, own, chain, BestAvailableEncryption(PASSWORD.encode())
    )


if __name__ == "__main__":
    sys.exit(main())
