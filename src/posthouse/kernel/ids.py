"""Identifiers. Each is a type of its own, so that one is never passed for another."""

from typing import NewType

AccountId = NewType("AccountId", int)
DomainId = NewType("DomainId", int)
MailboxId = NewType("MailboxId", int)
EmailId = NewType("EmailId", int)
BlobId = NewType("BlobId", int)
MessageId = NewType("MessageId", int)
"""Row of an accepted message; not the Message-ID header field."""
RecipientId = NewType("RecipientId", int)

Uid = NewType("Uid", int)
UidValidity = NewType("UidValidity", int)
ModSeq = NewType("ModSeq", int)

TraceId = NewType("TraceId", str)
"""Names a connection in every log line, and with `.n` behind it the n-th transaction on it."""
QueueId = NewType("QueueId", str)
"""What people and `Received` fields call an accepted message: the TraceId of its transaction."""
