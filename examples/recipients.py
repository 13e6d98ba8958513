"""One letter to several people, and what became of it for each.

  python recipients.py URL SENDER TO...

The server may take it for some and refuse it for others: that is no error, and the receipt tells.
"""

import sys

from posthouse.sending import EnvelopeError, Message, SendingError, Transport


def main(url: str, sender: str, *to: str) -> int:
    letter = Message(
        sender=sender,
        to=list(to),
        subject="To all of you",
        text="Dear all,\n\nthis is one letter, and each of you gets it.\n",
    )
    try:
        with Transport(url) as transport:
            receipt = transport.send(letter)
    except EnvelopeError as error:
        print("Nobody got it.", error, sep="\n", file=sys.stderr)
        for one in error.rejected:
            print(f"{one.recipient}: {one.code} {one.text}", file=sys.stderr)
        return 1
    except SendingError as error:
        print(error, file=sys.stderr)
        return 2
    for address in receipt.accepted:
        print(f"{address}: accepted")
    for one in receipt.rejected:
        print(f"{one.recipient}: {one.code} {one.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
