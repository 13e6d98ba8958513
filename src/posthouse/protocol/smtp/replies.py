"""The replies a server gives, by name: the machine's own and the usual ones of its callers.

Codes are those of RFC 5321 §4.2.3 and the extensions' RFCs, statuses those of RFC 3463 and 5248.
"""

from __future__ import annotations

from typing import Final

from posthouse.kernel.reply import Reply

# For callers answering events.
SENDER_OK: Final = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = Reply(250, "2.1.5", "Recipient OK")
MESSAGE_OK: Final = Reply(250, "2.0.0", "Message accepted")
UNKNOWN_USER: Final = Reply(550, "5.1.1", "No such user here")
RELAY_DENIED: Final = Reply(550, "5.7.1", "Relaying denied")
AUTH_FAILED: Final = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_MALFORMED: Final = Reply(501, "5.5.2", "Malformed authentication response")
AUTH_TEMPORARY: Final = Reply(454, "4.7.0", "Temporary authentication failure")
LOCAL_FAULT: Final = Reply(451, "4.3.0", "Temporary fault on our side, try again later")
NO_ROOM: Final = Reply(452, "4.3.1", "Not enough room, try again later")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service is shutting down, try again later")
IDLE: Final = Reply(421, "4.4.2", "Idle for too long")

# The machine's own.
OK: Final = Reply(250, "2.0.0", "OK")
CHUNK_OK: Final = Reply(250, "2.0.0", "Chunk received")
AUTH_OK: Final = Reply(235, "2.7.0", "Authentication succeeded")
BYE: Final = Reply(221, "2.0.0", "Bye")
CANNOT_VERIFY: Final = Reply(252, "2.0.0", "Send the message and we shall see")
HELP: Final = Reply(214, "2.0.0", "See RFC 5321")
READY_FOR_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")
START_CONTENT: Final = Reply(354, "", "End the message with <CRLF>.<CRLF>")

UNKNOWN_COMMAND: Final = Reply(500, "5.5.1", "Unknown command")
MALFORMED_LINE: Final = Reply(500, "5.5.2", "Malformed command line")
BARE_NEWLINE_LINE: Final = Reply(500, "5.5.2", "Command lines end with CRLF and hold no other CR")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Command line too long")
AUTH_LINE_TOO_LONG: Final = Reply(500, "5.5.6", "Authentication exchange line is too long")
BAD_ARGUMENT: Final = Reply(501, "5.5.4", "Syntax error in the argument")
BAD_PARAMETER: Final = Reply(501, "5.5.4", "Syntax error in a parameter")
DUPLICATE_PARAMETER: Final = Reply(501, "5.5.4", "A parameter is given twice")
UNSUPPORTED_VALUE: Final = Reply(504, "5.5.4", "Parameter value not supported")
UNKNOWN_PARAMETER: Final = Reply(555, "5.5.4", "Parameter not recognised")
NOT_OFFERED: Final = Reply(502, "5.5.1", "Command not offered here")
BAD_SEQUENCE: Final = Reply(503, "5.5.1", "Command out of turn")
HELLO_FIRST: Final = Reply(503, "5.5.1", "Say hello first")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS is active already")
AUTHENTICATED: Final = Reply(503, "5.5.1", "Authenticated already")
UNKNOWN_MECHANISM: Final = Reply(504, "5.5.4", "Mechanism not supported")
TLS_FOR_AUTH: Final = Reply(538, "5.7.11", "Encryption is required: send STARTTLS first")
TLS_FIRST: Final = Reply(530, "5.7.0", "Send STARTTLS first")
AUTH_FIRST: Final = Reply(530, "5.7.0", "Authentication required")
AUTH_CANCELLED: Final = Reply(501, "5.7.0", "Authentication cancelled")
BAD_BASE64: Final = Reply(501, "5.5.2", "That is not base64")
TOO_MANY_ROUNDS: Final = Reply(501, "5.5.4", "Authentication exchange too long")

NON_ASCII_ADDRESS: Final = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients, send the rest separately")
MESSAGE_TOO_BIG: Final = Reply(552, "5.3.4", "Message too big")
BARE_NEWLINE: Final = Reply(550, "5.6.0", "The message has a CR or LF that is not part of a CRLF")
NUL_IN_HEADER: Final = Reply(550, "5.6.0", "The header section has a NUL")
TEXT_LINE_TOO_LONG: Final = Reply(550, "5.6.0", "The message has a line that is too long")

# Replies that end the session.
EARLY_TALKER: Final = Reply(554, "5.5.0", "You spoke before your turn")
TLS_INJECTION: Final = Reply(554, "5.5.1", "Nothing may follow STARTTLS")
WRONG_PROTOCOL: Final = Reply(554, "5.5.0", "This is not the protocol spoken here")
BAD_CHUNK: Final = Reply(501, "5.5.4", "Chunk size missing or malformed")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors")
TOO_MANY_UNKNOWN: Final = Reply(421, "4.7.0", "Too many refused recipients")
TOO_MUCH_JUNK: Final = Reply(421, "4.7.0", "Too many commands without mail")
TOO_MANY_TRANSACTIONS: Final = Reply(421, "4.7.0", "Too many messages in one session")
TOO_MANY_LOGINS: Final = Reply(421, "4.7.0", "Too many failed logins")
