"""A letter signed with one's own S/MIME key and encrypted to its reader's certificate.

python signed_and_encrypted.py URL SENDER SENDER.p12 TO TO.pem

The password of the .p12 file is asked for, or taken from the variable KEY_PASSWORD.
"""

import os
import sys
from getpass import getpass
from pathlib import Path

from posthouse.mimesec import Protection, ProtectionError
from posthouse.mimesec.smime import (
    SmimeRecipient,
    SmimeSealer,
    SmimeSigner,
    from_pkcs12,
    read_certificates,
)
from posthouse.sending import Message, SendingError, Transport


def main(url: str, sender: str, own: str, to: str, theirs: str) -> int:
    password = os.environ.get("KEY_PASSWORD") or getpass("Password of the key: ")
    try:
        identity = from_pkcs12(Path(own).read_bytes(), password)[0]
        reader = read_certificates(Path(theirs).read_bytes())[0]
        letter = Message(
            sender=sender,
            to=to,
            subject="The offer",  # encrypted, too: outside it says [...]
            text="We take it.",
            protection=Protection(
                signer=SmimeSigner(identity),
                sealer=SmimeSealer(),
                recipients=(SmimeRecipient(reader),),
                own=SmimeRecipient(identity.certificate),  # so that we can read what we sent
            ),
        )
        with Transport(url) as transport:
            print(transport.send(letter).response)
    except SendingError as error:  # it says what to do, too
        print(error, file=sys.stderr)
    except ProtectionError as error:
        print(f"{error}\nhint: {error.hint}", file=sys.stderr)
    except OSError as error:  # a file that is not there
        print(f"{error.filename} cannot be read: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
