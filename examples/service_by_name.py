"""Send a letter through a well-known service: its host, port and TLS are known by its name.

  python service_by_name.py gmail you@gmail.com TO

Most of these services want an app password in place of the one for their pages; where one is
missing the error says so, and where to make it.
"""

import getpass
import os
import sys

from posthouse.sending import Message, SendingError, Transport


def main(service: str, user: str, to: str) -> int:
    password = os.environ.get("MAIL_PASSWORD") or getpass.getpass(f"App password of {user}: ")
    with Transport(service=service, user=user, password=password) as transport:
        try:
            receipt = transport.send(
                Message(sender=user, to=to, subject="Hello", text="Sent by name.\n")
            )
        except SendingError as error:
            print(error, file=sys.stderr)
            return 1
    print(receipt.response)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
