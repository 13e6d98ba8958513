"""A whole mail server on loopback for a test of your own program, ready in a moment.

  pip install 'posthouse[server]' pytest
  pytest in_a_test.py

`mail_server` is a fixture that comes with Posthouse. It takes mail for any address, keeps it, and
never sends anything to the outside.
"""

from posthouse.sending import Message, Transport
from posthouse.testing import MailServer


def invite(url: str, ca: str, guest: str) -> None:
    """What your program does."""
    with Transport(url, ca=ca) as transport:
        transport.send(
            Message(sender="host@example.test", to=guest, subject="Come", text="Tonight?\n")
        )


def test_a_guest_is_invited(mail_server: MailServer) -> None:
    invite(mail_server.url, mail_server.ca, "guest@example.test")
    (letter,) = mail_server.inbox("guest@example.test")
    assert letter.message.subject == "Come"
    assert letter.message.text == "Tonight?\n"
