"""Every event that a log line can report: a closed set, each with its level and meaning.

The reference page is made from it. A new event is a new name here; the fields that it usually
carries are named in its meaning.
"""

from __future__ import annotations

from typing import Final

from posthouse.observe.options import LogLevel

EVENTS: Final[dict[str, Event]] = {}
"""All of them by name, in the order below."""


class Event:
    """A name that log lines carry, noun first: "session.closed"."""

    __slots__ = ("json_head", "level", "meaning", "name", "rank", "text_head")

    def __init__(self, name: str, level: LogLevel, meaning: str) -> None:
        assert name not in EVENTS, name
        self.name = name
        self.level = level
        self.rank = level.rank
        self.meaning = meaning
        # What stands between the time and the fields of a line, ready to be joined.
        self.json_head = f'Z","level":"{level.value}","event":"{name}"'.encode("ascii")
        self.text_head = f"Z {level.value:<7} {name}".encode("ascii")
        EVENTS[name] = self

    def __repr__(self) -> str:
        return f"Event({self.name})"


def _debug(name: str, meaning: str) -> Event:
    return Event(name, LogLevel.DEBUG, meaning)


def _info(name: str, meaning: str) -> Event:
    return Event(name, LogLevel.INFO, meaning)


def _warning(name: str, meaning: str) -> Event:
    return Event(name, LogLevel.WARNING, meaning)


def _error(name: str, meaning: str) -> Event:
    return Event(name, LogLevel.ERROR, meaning)


# The server itself
SERVER_STARTED: Final = _info("server.started", "It accepts connections: version, listeners.")
SERVER_DRAINING: Final = _info("server.draining", "It accepts no more and finishes: reason.")
SERVER_STOPPED: Final = _info("server.stopped", "It ends: reason, seconds.")
SERVER_FAILED: Final = _error("server.failed", "It cannot start or go on: detail.")
LISTENER_OPENED: Final = _info("listener.opened", "A port is open: service, address, port.")
LISTENER_FAILED: Final = _error("listener.failed", "A port cannot be opened: service, detail.")
CONFIG_RELOADED: Final = _info("config.reloaded", "A changed config applies: path.")
CONFIG_REFUSED: Final = _error(
    "config.refused", "A changed config has a mistake; the old one stays: path, detail."
)
CONFIG_RESTART_NEEDED: Final = _warning(
    "config.restart_needed", "Changed settings that apply only after the next start: keys."
)
CERTIFICATE_LOADED: Final = _info("certificate.loaded", "A certificate is in use: path, expires.")
CERTIFICATE_REFUSED: Final = _error(
    "certificate.refused", "A changed certificate cannot be used; the old one stays: detail."
)
CERTIFICATE_OBTAINED: Final = _info(
    "certificate.obtained", "An authority gave us a certificate: name, expires."
)
CERTIFICATE_FAILED: Final = _error(
    "certificate.failed", "An order failed: name, detail, hint, and when it is tried again."
)
CERTIFICATE_EXPIRING: Final = _error(
    "certificate.expiring", "Renewals fail and little time is left: name, expires, detail."
)
CERTIFICATE_MISSING: Final = _error(
    "certificate.missing", "No first certificate after many attempts: name, since, detail."
)
CERTIFICATE_WAITS: Final = _info(
    "certificate.waits", "An order or a new key waits for something in the DNS: name, detail."
)
CERTIFICATE_WISHED: Final = _info(
    "certificate.wished", "When the authority wants a renewal: name, at, explanation."
)
DNS_UPDATE_FAILED: Final = _warning(
    "dns.update_failed", "A record of ours could not be removed from the DNS: name, detail."
)
STRESS_ENTERED: Final = _warning("stress.entered", "Nearly full: limits under stress apply.")
STRESS_LEFT: Final = _info("stress.left", "Limits under stress apply no more.")
LOOP_BLOCKED: Final = _warning("loop.blocked", "Something kept the event loop: seconds.")
CLOCK_JUMPED: Final = _warning("clock.jumped", "Wall time moved against monotonic time: seconds.")

# Sessions
SESSION_CLOSED: Final = _info(
    "session.closed", "A connection ended: service, peer, reason, seconds, transactions."
)
SESSION_REFUSED: Final = _info(
    "session.refused", "A connection was turned away at the door: service, peer, reason."
)
SESSION_FAILED: Final = _error(
    "session.failed", "A bug ended a session; the traceback is in detail: service, peer."
)
TLS_FAILED: Final = _info("tls.failed", "A handshake failed: peer, detail.")
LOGIN_ACCEPTED: Final = _info("login.accepted", "A login: service, peer, account, mechanism.")
LOGIN_REFUSED: Final = _warning("login.refused", "A failed login: service, peer, mechanism.")

# A message
SENDER_REFUSED: Final = _info("sender.refused", "MAIL was refused: peer, sender, reply.")
RECIPIENT_REFUSED: Final = _info("recipient.refused", "RCPT was refused: peer, recipient, reply.")
MESSAGE_ACCEPTED: Final = _info(
    "message.accepted", "We own a message: peer, sender, recipients, octets, seconds."
)
MESSAGE_REFUSED: Final = _info(
    "message.refused", "A message was refused with 5yz: id, peer, sender, recipients, reply, why."
)
MESSAGE_DEFERRED: Final = _warning(
    "message.deferred", "A message was put off with 4yz: id, peer, sender, recipients, reply, why."
)

# A recipient in the queue
RECIPIENT_DELIVERED: Final = _info("recipient.delivered", "Stored in a mailbox: recipient.")
RECIPIENT_RELAYED: Final = _info(
    "recipient.relayed", "Another host took it: recipient, host, reply, seconds."
)
RECIPIENT_DEFERRED: Final = _info(
    "recipient.deferred", "To be tried again: recipient, host, reply, due."
)
RECIPIENT_FAILED: Final = _warning("recipient.failed", "Failed for good: recipient, host, reply.")
RECIPIENT_EXPIRED: Final = _warning("recipient.expired", "Too old to be tried: recipient.")
RECIPIENT_DROPPED: Final = _info("recipient.dropped", "Dropped by a named rule: recipient, rule.")
QUEUE_CHANGED: Final = _info(
    "queue.changed", "A person held, released, retried, rerouted or dropped: action, by."
)
LEASE_LOST: Final = _warning("lease.lost", "An outcome came after its lease: recipient.")
DESTINATION_DEAD: Final = _warning("destination.dead", "Only probes go there: destination.")
DESTINATION_ALIVE: Final = _info("destination.alive", "A dead destination answers: destination.")
MTA_STS_FAILED: Final = _info(
    "mta_sts.failed", "A policy that the DNS announces cannot be had: domain, detail."
)
MTA_STS_NOT_REFRESHED: Final = _warning(
    "mta_sts.not_refreshed",
    "A policy in use cannot be fetched anew; it counts for some days more: domain, days, detail.",
)

# DMARC and TLS reports
REPORT_SENT: Final = _info("report.sent", "A report is on its way: kind, domain, detail.")
REPORT_NOT_SENT: Final = _info(
    "report.not_sent", "A report that is due was not sent: kind, domain, detail."
)
REPORT_READ: Final = _info(
    "report.read", "A report came and is kept: id, kind, domain, reporter, authenticated."
)
REPORT_UNREAD: Final = _warning(
    "report.unread", "Mail to a report address holds no report that can be read: id, detail."
)

# DKIM keys of our domains
KEY_MADE: Final = _info(
    "key.made", "A DKIM key waits for the DNS to show its record: domain, selector, algorithm."
)
KEY_SHOWN: Final = _info(
    "key.shown",
    "The DNS shows a new key; it signs once caches without it ran out: domain, selector.",
)
KEY_GONE: Final = _warning(
    "key.gone", "The DNS shows a waiting key no more: domain, selector, detail."
)
KEY_SIGNS: Final = _info("key.signs", "A key signs from now on: domain, selector, algorithm.")
KEY_NOT_SHOWN: Final = _error(
    "key.not_shown", "A key signs, but receivers cannot find it: domain, selector, detail."
)
KEY_RETIRED: Final = _info("key.retired", "A key signs no more: domain, selector.")
KEY_TOO_EARLY: Final = _warning(
    "key.too_early",
    "The record of a retired key is gone from the DNS while mail signed with it is under way; put"
    " it back: domain, selector, detail.",
)
KEY_MAY_GO: Final = _warning(
    "key.may_go", "The record of a retired key is to be removed from the DNS: domain, selector."
)
KEY_REVOKED: Final = _info(
    "key.revoked", "A retired key is out of the DNS, and its private half wiped: domain, selector."
)
KEY_LOOK_FAILED: Final = _error(
    "key.look_failed", "Keys of a domain could not be looked at: domain, detail."
)
KEY_PUBLISH_FAILED: Final = _warning(
    "key.publish_failed",
    "The DNS could not be changed for a key; it is tried again: domain, selector, detail.",
)
KEY_UNUSABLE: Final = _error(
    "key.unusable", "A key cannot be used, so mail goes without it: domain, selector, detail."
)

# Limits and faults
LIMIT_REACHED: Final = _warning("limit.reached", "A limit: name, value, observed, peer.")
STORE_OPENED: Final = _info("store.opened", "The data is open: path, seconds.")
STORE_LOST: Final = _error("store.lost", "A sync failed: this process stops: detail.")
FAULT_MET: Final = _error("fault.met", "Disk, DNS or database failed us: kind, detail.")
ALIAS_LOOP: Final = _warning("alias.loop", "An alias expands too far: address.")

# Mailboxes
MESSAGE_DAMAGED: Final = _error(
    "message.damaged", "Stored octets are missing or changed; others are served: messages."
)
CLIENT_NAMED: Final = _debug("client.named", "What a client says it is (RFC 2971): client.")

# The log itself
LOG_DROPPED: Final = _warning("log.dropped", "Lines lost to a blocked or full sink: lines.")
LOG_REOPENED: Final = _info("log.reopened", "The file was opened again: path.")
LOG_REOPEN_FAILED: Final = _error("log.reopen_failed", "The old file goes on: path, detail.")
LIBRARY_SPOKE_DEBUG: Final = _debug("library.debug", "A library's record: logger, text.")
LIBRARY_SPOKE_INFO: Final = _info("library.info", "A library's record: logger, text.")
LIBRARY_SPOKE_WARNING: Final = _warning("library.warning", "A library's record: logger, text.")
LIBRARY_SPOKE_ERROR: Final = _error("library.error", "A library's record: logger, text.")
