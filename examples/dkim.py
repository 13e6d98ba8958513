"""Sign a letter with the DKIM key of your domain before it is sent.

  python dkim.py URL SENDER TO SELECTOR KEY

URL is the transport, like smtp+starttls://user@mail.example.org:587 or folder:outbox to only look
at the result; KEY is the private key as a PEM file (RSA or Ed25519). The DNS has to show its public
half at SELECTOR._domainkey.DOMAIN. A server that signs by itself needs none of this.
"""

import sys
from pathlib import Path

from posthouse.sending import Dkim, Message, SendingError, Transport


def main(url: str, sender: str, to: str, selector: str, key: str) -> int:
    domain = sender.rpartition("@")[2]
    signed_by = Dkim(domain=domain, selector=selector, key=Path(key))
    try:
        with Transport(url, dkim=signed_by) as transport:
            receipt = transport.send(
                Message(sender=sender, to=to, subject="Signed", text="This letter is signed.\n")
            )
    except SendingError as error:
        print(error, file=sys.stderr)
        return 1
    print(receipt.message_id, receipt.response)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
