"""The client library: send mail from Python, by SMTP and other ways.

from posthouse.sending import Message, Transport

with Transport("smtp+starttls://user:secret@mail.example.org:587") as transport:
    transport.send(Message(sender="ada@example.org", to="bob@example.net", text="At five?"))
"""
