"""From the checked config to the options of signing, encrypting and opening mail."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from posthouse.config.schema import Config
from posthouse.gateway import key_search, revocations
from posthouse.gateway.options import Options
from posthouse.kernel.errors import UserError
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime.identity import read_certificates

CA_OCTETS_MAX: Final = 8 << 20


def gateway_options(config: Config) -> Options:
    """Raises UserError when `mimesec.ca_file` cannot be used."""
    section = config.mimesec
    return Options(
        host=config.node.hostname,
        roots=_roots(section.ca_file),
        is_learning=section.is_learning,
        sends_autocrypt=section.sends_autocrypt,
        recipients_max=section.recipients_max,
        open_s=section.open_s,
        memory_octets=section.open_memory_octets,
        result_octets_max=section.opened_octets_max,
    )


def key_search_options(config: Config) -> key_search.Options:
    section = config.mimesec
    return key_search.Options(
        is_enabled=section.is_looking_up,
        deadline_s=section.lookup_s,
        found_s=section.found_s,
        missed_s=section.missed_s,
    )


def revocation_options(config: Config) -> revocations.Options:
    section = config.mimesec
    return revocations.Options(
        is_enabled=section.is_checking_revocation, deadline_s=section.revocation_s
    )


def _roots(ca_file: str) -> tuple[bytes, ...]:
    if not ca_file:
        system = ssl.get_default_verify_paths().cafile
        try:
            return (_read(Path(system)),) if system else ()
        except OSError:  # then nobody is trusted but whom the key store knows
            return ()
    try:
        octets = _read(Path(ca_file))
        read_certificates(octets)
    except OSError as error:
        raise UserError(
            f"mimesec.ca_file {ca_file} cannot be read: {error.strerror}",
            hint="name a file of certificates in PEM, or leave the setting out for the system's",
        ) from error
    except ProtectionError as error:
        raise UserError(
            f"mimesec.ca_file {ca_file} cannot be used: {error.text}", hint=error.hint
        ) from None
    return (octets,)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(CA_OCTETS_MAX)
