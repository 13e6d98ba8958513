"""Arguments that there are not are told, with the one that was likely meant."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from posthouse.sending import (
    Alternative,
    AsyncTransport,
    Attachment,
    Dkim,
    ListFields,
    Mailbox,
    Message,
    MessageError,
    OptionError,
    SendEnvelope,
    Transport,
    message,
)
from posthouse.sending.keywords import _MEANT, TRANSPORT
from posthouse.sending.options import Keywords

WRONG: list[tuple[Callable[..., Any], dict[str, Any], str, str]] = [
    (Message, {"body": "x"}, "Message takes no body", "give `text` or `html`"),
    (Message, {"recipients": "x"}, "Message takes no recipients", "give `to`"),
    (Message, {"from_": "x"}, "Message takes no from_", "give `sender`"),
    (Message, {"replyTo": "x"}, "Message takes no replyTo", "did you mean reply_to?"),
    (Message, {"subjet": "x"}, "Message takes no subjet", "did you mean subject?"),
    (Message, {"xyzzy": "x"}, "Message takes no xyzzy", "it takes sender, to, cc"),
    (Attachment, {"name": "x"}, "Attachment takes no name", "give `filename`"),
    (Attachment, {"contentType": "x"}, "takes no contentType", "did you mean content_type?"),
    (Attachment, {"mime_type": "x"}, "Attachment takes no mime_type", "give `content_type`"),
    (Alternative, {"content": "x"}, "Alternative needs content_type", "give content_type=…"),
    (Mailbox, {"email": "x"}, "Mailbox takes no email", "give `address`"),
    (SendEnvelope, {"from": "x"}, "SendEnvelope takes no from", "give `sender`"),
    (ListFields, {"unsubscrib": "x"}, "takes no unsubscrib", "did you mean unsubscribe?"),
    (Dkim, {"privateKey": "x"}, "Dkim takes no privateKey", "give `key`"),
]


@pytest.mark.parametrize(("make", "given", "text", "hint"), WRONG)
def test_what_a_message_does_not_take_is_told(
    make: Callable[..., Any], given: dict[str, Any], text: str, hint: str
) -> None:
    with pytest.raises(MessageError) as caught:
        make(**given)
    assert text in caught.value.text and hint in caught.value.hint
    assert caught.value.field in (*given, "content_type")


def test_arguments_have_names() -> None:
    with pytest.raises(MessageError, match="Message takes its arguments by name") as caught:
        Message("ada@example.org")  # type: ignore[misc]
    assert caught.value.hint == "write Message(sender=…)"
    with pytest.raises(MessageError, match="Mailbox takes 2 arguments"):
        Mailbox("ada@example.org", "Ada", "x")  # type: ignore[call-arg]
    with pytest.raises(MessageError, match="Mailbox needs address"):
        Mailbox()  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [Transport, AsyncTransport])
@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"timeout": 3}, "give `connect_timeout_s`, `greeting_timeout_s`, `command_timeout_s` and"),
        ({"secure": True}, 'give tls="implicit" (TLS from the start, port 465) or tls="starttls"'),
        ({"requireTLS": True}, 'give tls="starttls"'),
        ({"username": "ada"}, "give `user`"),
        ({"auth": ("ada", "x")}, "give `user` and `password`"),
        ({"maxConnections": 3}, "give `connections_max`"),
        ({"conections_max": 3}, "did you mean connections_max?"),
        ({"servce": "gmail"}, "did you mean service?"),
    ],
)
def test_other_libraries_options_are_known_by_what_they_are_here(
    kind: type[Transport | AsyncTransport], given: dict[str, Any], hint: str
) -> None:
    with pytest.raises(OptionError, match=f"the option {next(iter(given))} is not known") as caught:
        kind("smtp://mail.example.org", **given)
    assert hint in caught.value.hint and caught.value.option in given


def test_no_name_that_there_is_stands_for_another() -> None:
    assert not TRANSPORT.keys() & Keywords.__annotations__.keys()
    for name, meant in _MEANT.items():
        kind = getattr(message, name)
        assert not meant.keys() & set(kind.__struct_fields__)
        for one in filter(str.isidentifier, meant.values()):
            assert one in kind.__struct_fields__
    assert {one for one in TRANSPORT.values() if one.isidentifier()} <= set(
        Keywords.__annotations__
    )


def test_messages_are_values_as_before() -> None:
    letter = Message(sender=Mailbox("ada@example.org", "Ada"), to="bob@example.net", text="x")
    assert letter == copy.copy(letter) == pickle.loads(pickle.dumps(letter))
    other = msgspec.structs.replace(letter, text="y")
    assert (other.text, other.to) == ("y", letter.to) and isinstance(other, Message)
