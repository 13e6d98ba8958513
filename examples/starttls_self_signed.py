"""Send a letter through a server whose certificate the system does not know.

  python starttls_self_signed.py HOST[:PORT] USER CERTIFICATE TO [NAME]

CERTIFICATE is the server's own, as a file. A Posthouse keeps it in the folder tls of its data;
`openssl s_client -starttls smtp -connect HOST:587 -showcerts` prints that of any server. NAME is
the one that it is for, where that is not HOST.
"""

import getpass
import os
import sys

from posthouse.sending import Message, SendingError, Transport


def main(server: str, user: str, certificate: str, to: str, name: str = "") -> int:
    host, _, port = server.partition(":")
    password = os.environ.get("MAIL_PASSWORD") or getpass.getpass(f"Password of {user}: ")
    with Transport(
        host=host,
        port=int(port or 587),
        tls="starttls",
        ca=certificate,
        server_name=name or host,
        user=user,
        password=password,
    ) as transport:
        try:
            receipt = transport.send(Message(sender=user, to=to, subject="Tea", text="At five?\n"))
        except SendingError as error:
            print(error, file=sys.stderr)
            return 1
    print(receipt.message_id, receipt.accepted, receipt.response)
    if receipt.tls is not None:
        print(f"over {receipt.tls.version} with {receipt.tls.cipher}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
