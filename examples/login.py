"""Log in without sending anything: is the name right, the certificate, the password?

  python login.py URL

URL is like smtp+starttls://user@mail.example.org:587 or smtps://user@mail.example.org.
"""

import getpass
import os
import sys

from posthouse.sending import AuthError, SendingError, TlsError, Transport


def main(url: str) -> int:
    password = os.environ.get("MAIL_PASSWORD") or getpass.getpass()
    try:
        with Transport(url, password=password) as transport:
            found = transport.verify()
    except AuthError as error:
        print("The login was refused.", error, sep="\n", file=sys.stderr)
        return 1
    except TlsError as error:
        print("There is no safe connection.", error, sep="\n", file=sys.stderr)
        return 2
    except SendingError as error:
        print(error, file=sys.stderr)
        return 3
    print(f"{found.server} is {found.greeting_name}, and the login works")
    print("it offers", ", ".join(found.extensions))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
