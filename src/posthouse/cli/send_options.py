"""What `posthouse send` can be told: its options in groups, and the values of each group.

Names are those of the library's keywords where there is one, so that its documentation serves both.
A password is never an option's value, as others on a machine can see those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from posthouse.cli.output import password_option
from posthouse.sending.login import KNOWN

Command = TypeVar("Command", bound=Callable[..., Any])
Group = TypeVar("Group", bound=msgspec.Struct)

FOLDER_TEMPLATES: Final = Path()
TLS_WORDS: Final = ("auto", "starttls", "implicit", "opportunistic", "none")
STDIN: Final = "-"


OTHER_NAMES: Final = {
    "--text": "--body",
    "--message": "--body",
    "--msg": "--body",
    "--content": "--body",
    "--sender": "--from",
    "--recipient": "--to",
    "--title": "--subject",
    "--file": "--attach",
    "--attachment": "--attach",
    "--attachments": "--attach",
    "--host": "--server",
    "--port": "--server",
    "--smtp": "--server",
    "--smtp-server": "--server",
    "--username": "--user",
    "--login": "--user",
    "--password": "--password-file",
    "--token": "--token-file",
    "--auth": "--mechanism",
    "--starttls": "--tls",
    "--ssl": "--tls",
    "--csv": "--recipients",
    "--list": "--recipients",
    "--journal": "--resume",
    "--variables": "--data",
}
"""How other programs call what is here, where the nearest spelling would be another thing."""


class SendCommand(click.Command):
    """Knows our option for another program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (ours := OTHER_NAMES.get(error.option_name)) is None:
                raise
            words = f"No such option {error.option_name!r}. Did you mean {ours!r}?"
            raise click.NoSuchOption(error.option_name, message=words, ctx=ctx) from None


class ServerWish(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, and how the line is protected."""

    server: str | None
    service: str | None
    url: str | None
    dry_run: Path | None
    tls: str
    server_name: str | None
    tls_version_min: str | None
    ca: str | None
    insecure: bool
    certificate: str | None
    certificate_key: str | None
    proxy: str | None
    proxy_password_file: Path | None
    local_address: str | None
    hello_name: str | None
    timeout_s: float
    data_timeout_s: float | None


class LoginWish(msgspec.Struct, frozen=True, kw_only=True):
    """Who logs in, and where the password is."""

    user: str | None
    password_stdin: bool
    password_file: Path | None
    token_file: Path | None
    mechanism: str | None
    authorization_id: str | None


class LetterWish(msgspec.Struct, frozen=True, kw_only=True):
    """From whom to whom, and what is in it."""

    sender: str | None
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    reply_to: tuple[str, ...]
    subject: str | None
    body: str | None
    body_file: str | None
    html: str | None
    html_body: str | None
    attached: tuple[str, ...]
    inline: tuple[str, ...]
    inline_files: Path | None
    calendar: str | None
    fields: tuple[str, ...]
    in_reply_to: str | None
    priority: str | None
    eml: str | None
    template: str | None
    template_folder: Path
    data: tuple[str, ...]


class KeysWish(msgspec.Struct, frozen=True, kw_only=True):
    """Whose keys sign it, and to whose it is encrypted."""

    dkim: tuple[str, ...]
    sign: Path | None
    sign_key: Path | None
    key_password_file: Path | None
    encrypt_to: tuple[Path, ...]


class NoticeWish(msgspec.Struct, frozen=True, kw_only=True):
    """What the envelope asks of servers, and what is waited for."""

    return_path: str | None
    notify: str | None
    notify_return: str | None
    envelope_id: str | None
    tls_demand: str | None
    outcome_mailbox: str | None
    outcome_password_file: Path | None
    wait_s: float | None


def taken(group: type[Group], given: dict[str, Any]) -> Group:
    """The values of one group, out of all that click gave."""
    return group(**{name: given[name] for name in group.__struct_fields__})


def _with(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)

letter_options = _with(
    (
        click.option("--from", "sender", metavar="ADDRESS", help='"<>" for none.'),
        click.option("--to", multiple=True, metavar="ADDRESS"),
        click.option("--cc", multiple=True, metavar="ADDRESS"),
        click.option("--bcc", multiple=True, metavar="ADDRESS", help="Gets it, and nobody sees."),
        click.option("--reply-to", multiple=True, metavar="ADDRESS"),
        click.option("--subject", metavar="TEXT", help="Goes before that of --template."),
        click.option("--body", metavar="TEXT"),
        click.option("--body-file", metavar="FILE", help='"-" is stdin.'),
        click.option("--html", metavar="FILE", help='The body as HTML; "-" is stdin.'),
        click.option("--html-body", metavar="TEXT", help="The HTML itself."),
        click.option("--attach", "attached", multiple=True, metavar="FILE"),
        click.option(
            "--inline",
            multiple=True,
            metavar="CID:FILE",
            help="A picture that the HTML shows as cid:CID.",
        ),
        click.option(
            "--inline-files",
            type=_FOLDER,
            metavar="FOLDER",
            help="Put in the pictures that the HTML names by their paths in FOLDER.",
        ),
        click.option("--calendar", metavar="FILE", help="An invitation (.ics)."),
        click.option(
            "--header", "fields", multiple=True, metavar="'NAME: VALUE'", help="One more field."
        ),
        click.option("--in-reply-to", metavar="ID", help="Message-ID of what this answers."),
        click.option("--priority", type=click.Choice(["high", "normal", "low"])),
        click.option(
            "--eml",
            metavar="FILE",
            help='A whole message to send as it is; "-" is stdin. Without --to it goes to those in'
            " its fields.",
        ),
        click.option(
            "--template",
            metavar="NAME",
            help="Text from NAME.subject.txt, NAME.txt, NAME.html; columns are variables.",
        ),
        click.option(
            "--template-folder",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            default=FOLDER_TEMPLATES,
            metavar="FOLDER",
            help="Where the templates are.",
        ),
        click.option(
            "--data", multiple=True, metavar="NAME=VALUE", help="A variable of the templates."
        ),
    )
)

server_options = _with(
    (
        click.option(
            "--server",
            metavar="HOST[:PORT]",
            help="Port 587 if not given, 465 for --tls implicit; else this node's own.",
        ),
        click.option("--service", metavar="NAME", help="A well-known server, like gmail."),
        click.option(
            "--url",
            metavar="URL",
            help="smtps://HOST, smtp+starttls://USER@HOST, lmtp://HOST, posthouse://USER@HOST,"
            " sendmail:.",
        ),
        click.option(
            "--dry-run",
            type=_FOLDER,
            metavar="FOLDER",
            help="Write what would be sent there as .eml files, and send nothing.",
        ),
        click.option(
            "--tls",
            type=click.Choice(TLS_WORDS),
            default="auto",
            show_default=True,
            help="auto: from the start on port 465, else STARTTLS, which only this machine may do"
            " without.",
        ),
        click.option("--server-name", metavar="NAME", help="In its certificate, if another."),
        click.option("--tls-version-min", type=click.Choice(["1.2", "1.3"])),
        click.option("--ca", metavar="FILE", help="Trust the certificates in FILE (PEM) only."),
        click.option("--insecure", is_flag=True, help="Take any certificate."),
        click.option("--certificate", metavar="FILE", help="Our own, with its chain (PEM)."),
        click.option("--certificate-key", metavar="FILE", help="Its key, if apart."),
        click.option("--proxy", metavar="URL", help="http://HOST:PORT or socks5://USER@HOST."),
        click.option(
            "--proxy-password-file",
            type=_FILE,
            metavar="FILE",
            help="Or $POSTHOUSE_PROXY_PASSWORD.",
        ),
        click.option("--local-address", metavar="ADDRESS", help="To connect from."),
        click.option("--hello-name", metavar="NAME", help="Ours, for EHLO."),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(1, 3600),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest wait for the connection, the greeting and each answer to a command.",
        ),
        click.option(
            "--data-timeout",
            "data_timeout_s",
            type=click.FloatRange(1, 3600),
            metavar="SECONDS",
            help="For the answer to the whole message; 300 if not given, as servers may look into"
            " it first.",
        ),
    )
)

login_options = _with(
    (
        click.option("--user", metavar="NAME", help="Log in; asks for the password."),
        password_option,
        click.option(
            "--password-file",
            type=_FILE,
            metavar="FILE",
            help="Its first line is the password. $POSTHOUSE_PASSWORD serves, too.",
        ),
        click.option(
            "--token-file", type=_FILE, metavar="FILE", help="An OAuth 2 token for the login."
        ),
        click.option(
            "--mechanism",
            type=click.Choice(KNOWN, case_sensitive=False),
            help="Of the login; else the best that both sides know.",
        ),
        click.option("--authorization-id", metavar="NAME", help="Log in to act as NAME."),
    )
)

notice_options = _with(
    (
        click.option("--return-path", metavar="ADDRESS", help="Where notices go."),
        click.option(
            "--notify",
            metavar="WHEN",
            help="never, or some of success,failure,delay: ask for notices.",
        ),
        click.option(
            "--notify-return",
            type=click.Choice(["full", "headers"]),
            help="How much of it notices bring back.",
        ),
        click.option("--envelope-id", metavar="TEXT", help="What notices call it."),
        click.option(
            "--tls-demand",
            type=click.Choice(["required", "optional"]),
            help="required: refuse where any server on the way has no TLS.",
        ),
        click.option(
            "--outcome-mailbox",
            metavar="URL",
            help="imaps://USER@HOST, where notices arrive: wait and tell what became of it.",
        ),
        click.option(
            "--outcome-password-file",
            type=_FILE,
            metavar="FILE",
            help="Of that mailbox, if not that of --user.",
        ),
        click.option(
            "--wait",
            "wait_s",
            type=click.FloatRange(0, 86_400),
            metavar="SECONDS",
            help="For notices; 60 if not given.",
        ),
    )
)

keys_options = _with(
    (
        click.option(
            "--dkim",
            multiple=True,
            metavar="DOMAIN:SELECTOR:FILE",
            help="Sign with the key in FILE.",
        ),
        click.option(
            "--sign",
            type=_FILE,
            metavar="FILE",
            help="Sign by S/MIME (PKCS #12, or PEM with key and certificate) or OpenPGP (.asc).",
        ),
        click.option("--sign-key", type=_FILE, metavar="FILE", help="The key (PEM), if apart."),
        click.option(
            "--key-password-file",
            type=_FILE,
            metavar="FILE",
            help="Password of that key. $POSTHOUSE_KEY_PASSWORD serves, too; else it is asked for.",
        ),
        click.option(
            "--encrypt-to",
            type=_FILE,
            multiple=True,
            metavar="FILE",
            help="Encrypt to the key in FILE, a certificate (PEM, DER) or an OpenPGP key (.asc);"
            " one for each recipient.",
        ),
    )
)
