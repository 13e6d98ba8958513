"""`posthouse certificate list|obtain|renew`."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from cryptography import x509

from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import (
    CommandError,
    ExitCode,
    NotFound,
    json_option,
    say,
    say_error,
    say_hint,
    show,
    show_json,
    show_text,
)
from posthouse.cli.resolver import caching_resolver, dns_options
from posthouse.config import build_acme
from posthouse.config.schema import Config
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import TlsaRecord
from posthouse.store import accounts as rows
from posthouse.tls.acme.folder import AcmeFolder, Status
from posthouse.tls.acme.keeper import has_address
from posthouse.tls.acme.keys import public_key
from posthouse.tls.acme.options import Wanted
from posthouse.tls.certificates import CertificateFiles, load_certificate
from posthouse.tls.files import is_locked
from posthouse.tls.self_signed import KEY_NAME
from posthouse.tls.served import SERVING_LOCK, Served
from posthouse.tls.tlsa import tlsa_record

LOOK_S: Final = 0.2
ATTENTION_S: Final = 3.0
TLSA_SHOWN: Final = 22
"""Characters of a TLSA record on a terminal."""
MORE_S: Final = 30.0
"""Beyond the order itself, for the running server to take notice and to finish another one."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A name and its certificate."""

    name: str
    issuer: str = ""
    expires: datetime | None = None
    how: str = ""
    """"http-01" and so on, "file" for the one that [tls] names, "self-signed"."""
    next_at: datetime | None = None
    """When it is renewed, or tried again."""
    state: str = ""
    hint: str = ""
    tlsa: str = ""
    next_tlsa: str = ""
    """Of the key made in advance: to be published beside the other."""


@click.group()
def certificate() -> None:
    """Certificates of this server: what is in use, and orders at the authority of [acme]."""


@certificate.command("list")
@config_option
@json_option
def list_(config_path: str | None, as_json: bool) -> None:
    """Names, who signed, until when, how obtained, what comes next, and the TLSA records."""
    config = load_config(config_path).config
    shown = _shown(config, _names(_wanted(config)))
    if as_json:
        show_json(shown)
        return
    show(
        shown,
        as_json=False,
        columns=("name", "issuer", "expires", "how", "next", "TLSA", "state"),
        rows=[
            (
                *(each.name, each.issuer, _day(each.expires), each.how, _day(each.next_at)),
                "\n".join(_tlsa_words(each)),
                each.state,
            )
            for each in shown
        ],
        nothing="there is no certificate yet; the first start of the server makes one",
    )
    for hint in dict.fromkeys(each.hint for each in shown if each.hint):
        say_hint(hint)


@certificate.command()
@click.argument("names", nargs=-1)
@config_option
@json_option
def obtain(names: tuple[str, ...], config_path: str | None, as_json: bool) -> int:
    """Order certificates for NAMES now; without any, for every name that has none or whose last
    order failed. Policy hosts and autoconfig names are left until the DNS has an address for them.

    The running server does it, as ports 80 and 443 are its own; where none runs, this command opens
    them for the while. What failed is told for each name, with what to do about it.
    """
    config = load_config(config_path).config
    folder, wanted = build_acme.acme_folder(config), _wanted_or_told(config)
    chosen = _chosen(names, _names(wanted))
    if not chosen:
        lacking = [
            each
            for each in wanted
            if folder.files(each.name) is None or folder.status(each.name).failures
        ]
        chosen = asyncio.run(_with_address(config, lacking))
        if not chosen:
            other = "other " if lacking else ""
            say(f"every {other}name has a certificate; `posthouse certificate renew` orders anew")
            return ExitCode.OK
    return _order(config, chosen, as_json=as_json)


@certificate.command()
@click.argument("names", nargs=-1)
@config_option
@json_option
def renew(names: tuple[str, ...], config_path: str | None, as_json: bool) -> int:
    """Renew the certificates of NAMES now, or all, however long they are still good.

    The key stays. Mind the authority's limits: most give only some a week.
    """
    config = load_config(config_path).config
    folder, wanted = build_acme.acme_folder(config), _names(_wanted_or_told(config))
    chosen = _chosen(names, wanted) or [n for n in wanted if folder.files(n) is not None]
    if not chosen:
        raise NotFound("there is no certificate to renew", hint="posthouse certificate obtain")
    return _order(config, chosen, as_json=as_json)


def _tlsa_words(shown: Shown) -> list[str]:
    """Cut on a terminal, where they are looked at; whole for programs."""
    words = [(shown.tlsa, ""), (shown.next_tlsa, " (next)")]
    if sys.stdout.isatty():
        return [f"{tlsa[:TLSA_SHOWN]}…{note}" for tlsa, note in words if tlsa]
    return [f"{tlsa}{note}" for tlsa, note in words if tlsa]


# --- what there is ---


def _shown(config: Config, wanted: Sequence[str]) -> list[Shown]:
    """What the running server has counts, whatever the files hold by now."""
    folder, served = build_acme.acme_folder(config), build_acme.running(config)
    found = []
    host = config.node.hostname.lower()
    chain = build_acme.own_chain(config)
    shown_chains = {str(chain)}
    if folder.files(host) is None or config.tls.certificate:
        how = "file" if config.tls.certificate else "self-signed"
        if (own := _of_file(config, host, chain, how, served)) is not None:
            found.append(own)
    for name in dict.fromkeys((*wanted, *folder.names())):
        is_wanted = name in wanted
        found.append(_of_folder(folder, name, served, is_wanted=is_wanted))
        if (files := folder.files(name)) is not None:
            shown_chains.add(str(files.chain))
    for each in served or ():
        if each.chain not in shown_chains:
            state = f"in use until the server is reloaded: the config does not name {each.chain}"
            found.append(_of_leaf(_first_name(each.leaf) or host, each.leaf, "file", state))
    return found


def _of_leaf(name: str, leaf: x509.Certificate, how: str, state: str) -> Shown:
    return Shown(
        name=name,
        issuer=_issuer(leaf),
        expires=leaf.not_valid_after_utc,
        how=how,
        state=state,
        tlsa=_record(tlsa_record(leaf)),
    )


def _first_name(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return next(iter(names.get_values_for_type(x509.DNSName)), "")


def _of_file(
    config: Config, name: str, chain: Path, how: str, served: Sequence[Served] | None
) -> Shown | None:
    tls = Path(config.node.data_folder, "tls")
    key = Path(config.tls.key) if config.tls.certificate else tls / KEY_NAME
    in_use = next((each.leaf for each in served or () if each.chain == str(chain)), None)
    if how == "self-signed" and in_use is None and not chain.exists():
        return None
    files = CertificateFiles(chain=chain, key=key)
    try:
        on_disk = load_certificate(files, datetime.now(UTC)).leaf
    except UserError as error:
        if in_use is None:
            return Shown(name=name, how=how, state=f"unusable: {error.text}", hint=error.hint)
        state = f"in use as it was read before; unusable by now: {error.text}"
        return msgspec.structs.replace(_of_leaf(name, in_use, how, state), hint=error.hint)
    if served is None:
        return _of_leaf(name, on_disk, how, "in use")
    if in_use is None:
        return _of_leaf(name, on_disk, how, "not in use: the running server has not read it")
    if in_use != on_disk:
        state = "in use; the file holds another one, taken within half a minute"
        return _of_leaf(name, in_use, how, state)
    return _of_leaf(name, in_use, how, "in use")


def _of_folder(
    folder: AcmeFolder, name: str, served: Sequence[Served] | None, *, is_wanted: bool
) -> Shown:
    held, status = folder.held(name), folder.status(name)
    shown = Shown(name=name, next_at=status.next_at, hint=status.hint, state=_state(status))
    if held is not None:
        upcoming = folder.next_key(name)
        is_used = served is None or str(held.files.chain) in {each.chain for each in served}
        shown = msgspec.structs.replace(
            shown,
            issuer=_issuer(held.leaf),
            expires=held.leaf.not_valid_after_utc,
            how=held.about.challenge,
            state=shown.state or ("in use" if is_used else "not in use by the running server"),
            tlsa=_record(tlsa_record(held.leaf)),
            next_tlsa=(
                _record(tlsa_record(public_key(upcoming, "the next key"))) if upcoming else ""
            ),
        )
    if not is_wanted:
        return msgspec.structs.replace(shown, next_at=None, state="not wanted by the config")
    return msgspec.structs.replace(shown, state=shown.state or "not obtained yet")


def _state(status: Status) -> str:
    if status.failures:
        times = "once" if status.failures == 1 else f"{status.failures} times"
        return f"failed {times}: {status.problem}"
    return f"waits: {status.waits_for}" if status.waits_for else ""


def _issuer(leaf: x509.Certificate) -> str:
    for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
        if values := leaf.issuer.get_attributes_for_oid(oid):
            return str(values[0].value)
    return leaf.issuer.rfc4514_string()


def _record(tlsa: TlsaRecord) -> str:
    return f"{tlsa.usage} {tlsa.selector} {tlsa.matching} {tlsa.data.hex()}"


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at is not None else ""


def _names(wanted: Sequence[Wanted]) -> list[str]:
    return [each.name for each in wanted]


def _wanted(config: Config) -> Sequence[Wanted]:
    """The names ACME cares for; without data there are no domains yet."""
    if not config.acme.is_enabled:
        return []
    domains: list[str] = []
    if Path(config.node.data_folder, "posthouse.db").exists():
        with open_store(config) as store:
            domains = [domain.name for domain in store.read_now(rows.domains)]
    return build_acme.wanted(config, domains)


async def _with_address(config: Config, wanted: Sequence[Wanted]) -> list[str]:
    """All but those that nobody has published yet and nobody needs."""
    resolver = caching_resolver(dns_options(config, None))
    found = []
    for each in wanted:
        if each.is_optional and not await has_address(resolver, each.name):
            say(f"{each.name}: left until the DNS has an address for it")
        else:
            found.append(each.name)
    return found


def _wanted_or_told(config: Config) -> Sequence[Wanted]:
    if not config.acme.is_enabled:
        raise CommandError(
            "no authority is set up",
            hint="read its terms, then set acme.is_enabled = true and acme.accepts_terms = true",
            code=ExitCode.CONFIG,
        )
    return _wanted(config)


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    chosen = [name.lower().rstrip(".") for name in names]
    for name in chosen:
        if name not in wanted:
            raise NotFound(
                f"{name} is none of the names that need a certificate: {', '.join(wanted)}",
                hint="add it to acme.names",
            )
    return chosen


# --- orders ---


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one."""

    name: str
    ok: bool
    expires: datetime | None = None
    problem: str = ""
    hint: str = ""


def _order(config: Config, names: Sequence[str], *, as_json: bool) -> int:
    is_serving = is_locked(Path(config.node.data_folder, SERVING_LOCK))
    ask = _ask_server if is_serving else _alone
    done = ask(config, names)
    if as_json:
        show_json(done)
    else:
        for each in done:
            if each.ok:
                show_text(f"{each.name}: obtained, good until {_day(each.expires)} UTC")
            else:
                say_error(f"{each.name}: {each.problem.removeprefix(f'{each.name}: ')}")
                if each.hint:
                    say_hint(each.hint)
    return ExitCode.OK if all(each.ok for each in done) else ExitCode.FAILED


def _ask_server(config: Config, names: Sequence[str]) -> list[Ordered]:
    folder = build_acme.acme_folder(config)
    _await_attention(folder)
    done = []
    for name in names:
        token = secrets.token_hex(8)
        say(f"{name}: asking the running server")
        folder.ask(name, token)
        ends_s = time.monotonic() + config.acme.order_s + MORE_S
        while folder.status(name).answered != token:
            if time.monotonic() > ends_s:
                folder.drop_asked(name)
                raise CommandError(
                    f"the running server did not take up the order for {name}",
                    hint="its log says more",
                    code=ExitCode.TEMPORARY,
                )
            time.sleep(LOOK_S)
        status = folder.status(name)
        done.append(_outcome(folder, name, status.problem, status.hint))
    return done


def _await_attention(folder: AcmeFolder) -> None:
    """A server that has just started is given a moment.

    Raises:
        CommandError: the running server carries out no orders.
    """
    ends_s = time.monotonic() + ATTENTION_S
    while not folder.is_attended():
        if time.monotonic() > ends_s:
            raise CommandError(
                "the running server obtains no certificates: it started before [acme] was enabled",
                hint="restart it; it then obtains them by itself (SIGHUP is not enough for that)",
                code=ExitCode.TEMPORARY,
            )
        time.sleep(LOOK_S)


def _alone(config: Config, names: Sequence[str]) -> list[Ordered]:
    from posthouse.app.certificates import obtain_alone
    from posthouse.cli.serve import real_world

    failures: dict[str, UserError | None] = asyncio.run(
        obtain_alone(config, real_world(config), names)
    )
    folder = build_acme.acme_folder(config)
    return [
        _outcome(folder, name, failure.text if failure else "", failure.hint if failure else "")
        for name, failure in failures.items()
    ]


def _outcome(folder: AcmeFolder, name: str, problem: str, hint: str) -> Ordered:
    held = folder.held(name)
    if problem or held is None:
        return Ordered(name=name, ok=False, problem=problem or "nothing was obtained", hint=hint)
    return Ordered(name=name, ok=True, expires=held.leaf.not_valid_after_utc)
