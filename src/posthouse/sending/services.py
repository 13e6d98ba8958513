"""Well-known services by name: host, port and TLS as the providers publish them for mail programs.

Each entry names the provider's page and the month up to which it is known to have said so. Nothing
here asks a network: where a provider moves, give `host` and `port` until the table has followed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.sending.options import TlsUse

__all__ = ["Service", "by_name", "for_address", "known"]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    host: str
    port: int = 587
    tls: TlsUse = TlsUse.STARTTLS
    aliases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """Of its users' addresses."""
    source: str = ""
    """The provider's page."""
    checked: str = "2025-06"
    """The month up to which the page is known to have said so."""
    note: str = ""
    """What else its users have to know."""


_APP: Final = "wants an app password where two-step verification is on"


def _ses(region: str) -> Service:
    return Service(
        name=f"ses-{region}",
        host=f"email-smtp.{region}.amazonaws.com",
        source="https://docs.aws.amazon.com/general/latest/gr/ses.html",
        note="the login is an SMTP credential made in the console, not an access key",
    )


def _implicit(name: str, host: str, source: str, **more: object) -> Service:
    return Service(name=name, host=host, port=465, tls=TlsUse.IMPLICIT, source=source, **more)  # type: ignore[arg-type]


def _local(name: str, port: int, source: str) -> Service:
    return Service(name=name, host="127.0.0.1", port=port, tls=TlsUse.OFF, source=source)


_TABLE: Final = (
    _implicit(
        "gmail",
        "smtp.gmail.com",
        "https://support.google.com/a/answer/176600",
        aliases=("google", "googlemail", "google mail", "google workspace"),
        domains=("gmail.com", "googlemail.com"),
        note=_APP,
    ),
    Service(
        name="outlook365",
        host="smtp.office365.com",
        aliases=("office365", "microsoft365", "exchange online"),
        source="https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/"
        "authenticated-client-smtp-submission",
        note="takes OAuth 2 tokens; passwords only where the organisation allows them",
    ),
    Service(
        name="outlook",
        host="smtp-mail.outlook.com",
        aliases=("hotmail", "live", "msn", "outlook.com"),
        domains=("outlook.com", "hotmail.com", "live.com", "msn.com"),
        source="https://support.microsoft.com/office/d088b986-291d-42b8-9564-9c414e2aa040",
        note="takes OAuth 2 tokens only",
    ),
    _implicit(
        "yahoo",
        "smtp.mail.yahoo.com",
        "https://help.yahoo.com/kb/SLN4724.html",
        domains=("yahoo.com", "ymail.com", "rocketmail.com"),
        note=_APP,
    ),
    Service(
        name="icloud",
        host="smtp.mail.me.com",
        aliases=("apple", "me"),
        domains=("icloud.com", "me.com", "mac.com"),
        source="https://support.apple.com/102525",
        note=_APP,
    ),
    _implicit(
        "aol",
        "smtp.aol.com",
        "https://help.aol.com/articles/how-do-i-use-other-email-applications-to-send-and-receive-my-aol-mail",
        domains=("aol.com",),
        note=_APP,
    ),
    _implicit(
        "fastmail",
        "smtp.fastmail.com",
        "https://www.fastmail.help/hc/en-us/articles/1500000278342",
        domains=("fastmail.com", "fastmail.fm"),
        note="wants an app password",
    ),
    _implicit(
        "zoho",
        "smtp.zoho.com",
        "https://www.zoho.com/mail/help/zoho-smtp.html",
        domains=("zoho.com", "zohomail.com"),
        note=_APP,
    ),
    _implicit(
        "zoho-eu", "smtp.zoho.eu", "https://www.zoho.com/mail/help/zoho-smtp.html", note=_APP
    ),
    Service(
        name="gmx",
        host="mail.gmx.net",
        domains=("gmx.net", "gmx.de", "gmx.at", "gmx.ch"),
        source="https://hilfe.gmx.net/pop-imap/imap/imap-serverdaten.html",
        note="sending from programs has to be allowed in its settings first",
    ),
    Service(
        name="gmx.com",
        host="mail.gmx.com",
        domains=("gmx.com",),
        source="https://support.gmx.com/pop-imap/imap/server.html",
        note="sending from programs has to be allowed in its settings first",
    ),
    Service(
        name="web.de",
        host="smtp.web.de",
        aliases=("webde",),
        domains=("web.de",),
        source="https://hilfe.web.de/pop-imap/imap/imap-serverdaten.html",
        note="sending from programs has to be allowed in its settings first",
    ),
    _implicit(
        "t-online",
        "securesmtp.t-online.de",
        "https://www.telekom.de/hilfe/e-mail-einstellungen",
        domains=("t-online.de", "magenta.de"),
        note="wants the password for mail programs",
    ),
    Service(
        name="ionos",
        host="smtp.ionos.com",
        aliases=("1and1", "1&1"),
        source="https://www.ionos.com/help/email/general-topics/server-information",
    ),
    Service(
        name="ionos.de",
        host="smtp.ionos.de",
        source="https://www.ionos.de/hilfe/e-mail/allgemeine-themen/serverinformationen",
    ),
    _implicit(
        "posteo", "posteo.de", "https://posteo.de/hilfe", domains=("posteo.de", "posteo.net")
    ),
    _implicit(
        "mailbox.org",
        "smtp.mailbox.org",
        "https://kb.mailbox.org/en/private/e-mail-article/imap-pop3-and-smtp-settings",
        aliases=("mailbox",),
        domains=("mailbox.org",),
    ),
    _implicit(
        "runbox",
        "mail.runbox.com",
        "https://help.runbox.com/email-clients/",
        domains=("runbox.com",),
    ),
    _implicit("migadu", "smtp.migadu.com", "https://www.migadu.com/guides/clients/"),
    _implicit(
        "yandex",
        "smtp.yandex.ru",
        "https://yandex.com/support/mail/mail-clients/others.html",
        domains=("yandex.ru", "yandex.com", "ya.ru"),
        note="wants an app password",
    ),
    _implicit(
        "mail.ru",
        "smtp.mail.ru",
        "https://help.mail.ru/mail/mailer/popsmtp",
        aliases=("mailru",),
        domains=("mail.ru", "inbox.ru", "list.ru", "bk.ru"),
        note="wants an app password",
    ),
    _implicit(
        "rambler", "smtp.rambler.ru", "https://help.rambler.ru/mail/", domains=("rambler.ru",)
    ),
    _implicit(
        "qq",
        "smtp.qq.com",
        "https://service.mail.qq.com/",
        domains=("qq.com", "foxmail.com"),
        note="wants an authorization code",
    ),
    _implicit("qq-exmail", "smtp.exmail.qq.com", "https://service.exmail.qq.com/"),
    _implicit(
        "163",
        "smtp.163.com",
        "https://help.mail.163.com/",
        domains=("163.com",),
        note="wants an authorization code",
    ),
    _implicit(
        "126",
        "smtp.126.com",
        "https://help.mail.126.com/",
        domains=("126.com",),
        note="wants an authorization code",
    ),
    _implicit(
        "naver", "smtp.naver.com", "https://help.naver.com/service/30029", domains=("naver.com",)
    ),
    _implicit(
        "infomaniak",
        "mail.infomaniak.com",
        "https://www.infomaniak.com/en/support/faq/468/ports-to-use-for-messaging",
        checked="2026-02",
        domains=("ik.me",),
    ),
    _implicit("ovh", "ssl0.ovh.net", "https://help.ovhcloud.com/csm/en-mx-plan-getting-started"),
    _implicit("gandi", "mail.gandi.net", "https://docs.gandi.net/en/gandimail/"),
    _implicit(
        "orange",
        "smtp.orange.fr",
        "https://assistance.orange.fr/",
        domains=("orange.fr", "wanadoo.fr"),
    ),
    _implicit("free", "smtp.free.fr", "https://assistance.free.fr/", domains=("free.fr",)),
    _implicit("libero", "smtp.libero.it", "https://aiuto.libero.it/", domains=("libero.it",)),
    _implicit(
        "seznam",
        "smtp.seznam.cz",
        "https://napoveda.seznam.cz/cz/email/",
        domains=("seznam.cz", "email.cz"),
    ),
    _implicit("loopia", "mailcluster.loopia.se", "https://support.loopia.com/"),
    _implicit("godaddy", "smtpout.secureserver.net", "https://www.godaddy.com/help/a-4714"),
    _implicit(
        "namecheap",
        "mail.privateemail.com",
        "https://www.namecheap.com/support/knowledgebase/article.aspx/1179/",
    ),
    _implicit(
        "hostinger", "smtp.hostinger.com", "https://support.hostinger.com/en/articles/1575756"
    ),
    _implicit(
        "dreamhost", "smtp.dreamhost.com", "https://help.dreamhost.com/hc/en-us/articles/215612887"
    ),
    _implicit("rackspace", "secure.emailsrvr.com", "https://docs.rackspace.com/docs/cloud-office"),
    Service(
        name="sendgrid",
        host="smtp.sendgrid.net",
        source="https://www.twilio.com/docs/sendgrid/for-developers/sending-email/integrating-with-the-smtp-api",
        note='the user is "apikey" and the password is the key',
    ),
    Service(
        name="mailgun",
        host="smtp.mailgun.org",
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
    ),
    Service(
        name="mailgun-eu",
        host="smtp.eu.mailgun.org",
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
    ),
    Service(
        name="postmark",
        host="smtp.postmarkapp.com",
        source="https://postmarkapp.com/developer/user-guide/send-email-with-smtp",
        note="user and password are both the server token",
    ),
    Service(
        name="mailjet",
        host="in-v3.mailjet.com",
        source="https://dev.mailjet.com/smtp-relay/configuration/",
        note="user and password are the two keys of the account",
    ),
    _implicit(
        "brevo",
        "smtp-relay.brevo.com",
        "https://developers.brevo.com/docs/smtp-integration",
        checked="2026-09",
        aliases=("sendinblue",),
        note="the password is an SMTP key, not an API key",
    ),
    Service(
        name="sparkpost",
        host="smtp.sparkpostmail.com",
        source="https://support.sparkpost.com/docs/getting-started/getting-started-sparkpost",
        note='the user is "SMTP_Injection" and the password is an API key',
    ),
    Service(
        name="mandrill",
        host="smtp.mandrillapp.com",
        source="https://mailchimp.com/developer/transactional/docs/smtp-integration/",
        note="the password is an API key",
    ),
    _implicit(
        "resend",
        "smtp.resend.com",
        "https://resend.com/docs/send-with-smtp",
        note='the user is "resend" and the password is an API key',
    ),
    Service(name="smtp2go", host="mail.smtp2go.com", source="https://support.smtp2go.com/hc/en-gb"),
    Service(
        name="elasticemail", host="smtp.elasticemail.com", source="https://help.elasticemail.com/"
    ),
    Service(
        name="mailersend",
        host="smtp.mailersend.net",
        source="https://www.mailersend.com/help/smtp-relay",
    ),
    Service(
        name="scaleway",
        host="smtp.tem.scaleway.com",
        source="https://www.scaleway.com/en/docs/transactional-email/",
    ),
    _ses("us-east-1"),
    _ses("us-east-2"),
    _ses("us-west-1"),
    _ses("us-west-2"),
    _ses("ca-central-1"),
    _ses("eu-central-1"),
    _ses("eu-north-1"),
    _ses("eu-west-1"),
    _ses("eu-west-2"),
    _ses("eu-west-3"),
    _ses("ap-northeast-1"),
    _ses("ap-south-1"),
    _ses("ap-southeast-1"),
    _ses("ap-southeast-2"),
    _ses("sa-east-1"),
    Service(
        name="mailtrap",
        host="sandbox.smtp.mailtrap.io",
        source="https://docs.mailtrap.io/email-sandbox/setup/sandbox-integration",
        note="keeps mail to be looked at; nothing is delivered",
    ),
    Service(
        name="ethereal",
        host="smtp.ethereal.email",
        source="https://ethereal.email/",
        note="keeps mail to be looked at; nothing is delivered",
    ),
    _local("maildev", 1025, "https://github.com/maildev/maildev"),
    _local("mailhog", 1025, "https://github.com/mailhog/MailHog"),
    _local("mailpit", 1025, "https://mailpit.axllent.org/docs/"),
    Service(
        name="protonmail-bridge",
        host="127.0.0.1",
        port=1025,
        aliases=("proton", "protonmail"),
        domains=("proton.me", "protonmail.com"),
        source="https://proton.me/support/protonmail-bridge-clients-windows-thunderbird",
        note="the bridge has to run on this machine; its certificate is its own: export it for ca",
    ),
)


def _index() -> dict[str, Service]:
    found: dict[str, Service] = {}
    for service in _TABLE:
        for name in (service.name, *service.aliases):
            found[_folded(name)] = service
    return found


def _folded(name: str) -> str:
    return "".join(one for one in name.casefold() if one.isalnum() or one == ".")


_BY_NAME: Final = _index()
_BY_DOMAIN: Final = {domain: service for service in _TABLE for domain in service.domains}


def known() -> tuple[Service, ...]:
    """All of them."""
    return _TABLE


def by_name(name: str) -> Service | None:
    """By its name or another it goes by; case and blanks do not matter."""
    return _BY_NAME.get(_folded(name)) or _BY_NAME.get(_folded(name).removesuffix(".com"))


def for_address(address: str) -> Service | None:
    """The service whose users have such addresses."""
    return _BY_DOMAIN.get(address.rpartition("@")[2].casefold())


def nearest(name: str) -> str:
    """The known name most like it, for a hint; "" where none is."""
    from difflib import get_close_matches

    names = {_folded(one.name): one.name for one in _TABLE}
    close = get_close_matches(_folded(name), names, n=1)
    return names[close[0]] if close else ""
