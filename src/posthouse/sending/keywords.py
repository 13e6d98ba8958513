"""What other libraries call what `Message` and the like take, for whoever comes from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from posthouse.kernel import keywords
from posthouse.sending.errors import MessageError

__all__ = ["TRANSPORT", "Told"]

_TEXTS: Final = "`text` or `html`"
_MESSAGE: Final = {
    **dict.fromkeys(("body", "content", "message", "contents"), _TEXTS),
    **dict.fromkeys(("plain", "plaintext", "body_text", "text_body", "plain_text"), "text"),
    **dict.fromkeys(("body_html", "html_body", "html_content", "html_message"), "html"),
    **dict.fromkeys(("recipient", "recipients", "receiver", "receivers", "rcpt"), "to"),
    **dict.fromkeys(("to_addr", "to_addrs", "toaddrs", "to_address", "to_emails"), "to"),
    **dict.fromkeys(("from", "from_addr", "fromaddr", "from_address"), "sender"),
    **dict.fromkeys(("from_email", "author", "mail_from"), "sender"),
    **dict.fromkeys(("mailfrom", "return_path", "dsn", "notify"), "envelope=SendEnvelope(…)"),
    **dict.fromkeys(("file", "files", "attach", "attachment"), "attachments"),
    **dict.fromkeys(("title", "topic"), "subject"),
    **dict.fromkeys(("header", "extra_headers", "fields"), "headers"),
    **dict.fromkeys(("ical_event", "ical", "ics", "invite", "event"), "calendar"),
    **dict.fromkeys(("amp", "amp_html", "watch_html"), "alternatives"),
    **dict.fromkeys(("unsubscribe", "list_unsubscribe"), "list=ListFields(unsubscribe=…)"),
    **dict.fromkeys(("sign", "signer", "encrypt", "smime", "pgp"), "protection=Protection(…)"),
    "attach_data_urls": "inline_data_urls=True",
    "eml": "raw",
}
_CONTENT: Final = dict.fromkeys(
    ("data", "body", "payload", "bytes", "octets", "buffer", "text"), "content"
)
_TYPE: Final = dict.fromkeys(
    ("type", "mimetype", "mime_type", "mime", "media_type"), "content_type"
)
_NAME: Final = dict.fromkeys(("name", "file_name", "title"), "filename")
_ATTACHMENT: Final = {
    **_CONTENT,
    **_TYPE,
    **_NAME,
    **dict.fromkeys(("file", "filepath", "file_path"), "path"),
    **dict.fromkeys(("id", "content_id"), "cid"),
    **dict.fromkeys(("inline", "disposition", "content_disposition"), "is_inline"),
    **dict.fromkeys(("transfer_encoding", "content_transfer_encoding"), "encoding"),
    **dict.fromkeys(("href", "uri"), "url"),
}
_MEANT: Final[Mapping[str, Mapping[str, str]]] = {
    "Message": _MESSAGE,
    "Attachment": _ATTACHMENT,
    "Alternative": _CONTENT | _TYPE,
    "CalendarEvent": _CONTENT | _NAME,
    "Mailbox": dict.fromkeys(("email", "addr", "mail"), "address"),
    "Dkim": {"domain_name": "domain", "key_selector": "selector", "private_key": "key"},
    "SendEnvelope": dict.fromkeys(("to", "rcpt", "rcpt_to"), "recipients")
    | dict.fromkeys(("from", "mail_from", "return_path"), "sender"),
}
_TIMES: Final = (
    "`connect_timeout_s`, `greeting_timeout_s`, `command_timeout_s` and `data_timeout_s`,"
    " each in seconds"
)
_EACH: Final = "`command_timeout_s` and `data_timeout_s`, in seconds"
_LOGIN: Final = "`token`, or `user` and `password`"
_TLS: Final = 'tls="implicit" (TLS from the start, port 465) or tls="starttls" (port 587)'
TRANSPORT: Final = {
    "timeout": _TIMES,
    "timeouts": _TIMES,
    **dict.fromkeys(("socket_timeout", "read_timeout"), _EACH),
    **dict.fromkeys(("connection_timeout", "connect_timeout"), "`connect_timeout_s`, in seconds"),
    "dns_timeout": "`connect_timeout_s`, in seconds",
    "greeting_timeout": "`greeting_timeout_s`, in seconds",
    **dict.fromkeys(("secure", "use_tls", "ssl", "security", "encryption"), _TLS),
    "use_ssl": 'tls="implicit"',
    **dict.fromkeys(("require_tls", "start_tls", "starttls"), 'tls="starttls"'),
    "ignore_tls": 'tls="off"',
    "opportunistic_tls": 'tls="opportunistic"',
    **dict.fromkeys(("auth", "credentials", "login"), "`user` and `password`"),
    **dict.fromkeys(("username", "user_name"), "user"),
    **dict.fromkeys(("pass", "passwd"), "password"),
    **dict.fromkeys(("hostname", "server", "smtp_server", "mailhost"), "host"),
    **dict.fromkeys(("access_token", "oauth", "oauth2", "api_key"), _LOGIN),
    "auth_method": "mechanism",
    **dict.fromkeys(("name", "local_hostname", "helo", "ehlo"), "hello_name"),
    "source_address": "local_address",
    **dict.fromkeys(("context", "tls_context"), "ssl_context"),
    **dict.fromkeys(("cafile", "ca_file", "ca_cert", "cert_bundle"), "ca"),
    **dict.fromkeys(("cert", "certfile", "client_cert", "ssl_certfile"), "certificate"),
    **dict.fromkeys(("key", "keyfile", "client_key", "ssl_keyfile"), "certificate_key"),
    **dict.fromkeys(("validate_certs", "reject_unauthorized", "verify_ssl", "insecure"), "verify"),
    "servername": "server_name",
    "min_version": "tls_version_min",
    **dict.fromkeys(("pool", "pool_size", "max_connections"), "connections_max"),
    "max_messages": "messages_per_connection_max",
    **dict.fromkeys(("rate_limit", "sending_rate"), "rate"),
    "rate_delta": "rate_per_s",
    **dict.fromkeys(("debug", "logger", "debuglevel", "transaction_log"), "watch=print"),
    **dict.fromkeys(("path", "args"), "`command` and `arguments`, with sendmail:"),
}
"""Of the keywords of a transport."""


class Told(keywords.Told):
    """What a program says of a message: see `posthouse.kernel.keywords`."""

    def meant(cls) -> Mapping[str, str]:
        return _MEANT.get(cls.__name__, {})

    def refused(cls, found: keywords.Mistake) -> MessageError:
        return MessageError(found.text, field=found.keyword, hint=found.hint)
