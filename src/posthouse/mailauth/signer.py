"""DKIM for what leaves this house: which keys sign a message, and where that is done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from posthouse.kernel.ports import Clock, Workers
from posthouse.mailauth.authors import author_domains
from posthouse.mailauth.dkim.sign import SigningKey, sign
from posthouse.message.fields import HeaderSection, read_section

KeysFor = Callable[[str], tuple[SigningKey, ...]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of section `dkim`."""

    is_enabled: bool = True
    expires_s: int = 14 * 86_400


class MailSigner:
    """Signs with the keys of the author's domain, or of the nearest domain above it that has some:
    our notices are from the host's own name, below a domain of ours (relaxed alignment)."""

    def __init__(self, options: Options, *, keys_for: KeysFor, clock: Clock) -> None:
        self._options = options
        self._keys_for = keys_for
        self._clock = clock

    def set_options(self, options: Options) -> None:
        """A reloaded config, for messages from now on."""
        self._options = options

    def signs(self, section: HeaderSection) -> bool:
        """Whether there is a key for the message."""
        return bool(self._keys(section))

    def sign_now(self, octets: bytes) -> bytes:
        """The DKIM-Signature fields for a whole message, to be put in front of it; b"" where its
        author's domain has no key. Half a millisecond for an RSA key."""
        section = read_section(octets)
        keys = self._keys(section)
        return self._sign(section, keys) if keys else b""

    async def sign(self, octets: bytes, workers: Workers) -> bytes:
        """As `sign_now`, on a worker."""
        section = read_section(octets)
        keys = self._keys(section)
        if not keys:
            return b""
        return await workers.run(partial(self._sign, section, keys))

    def _sign(self, section: HeaderSection, keys: tuple[SigningKey, ...]) -> bytes:
        now_unix_s = self._clock.unix_us() // 1_000_000
        return sign(section, keys, now_unix_s=now_unix_s, expires_s=self._options.expires_s)

    def _keys(self, section: HeaderSection) -> tuple[SigningKey, ...]:
        if not self._options.is_enabled:
            return ()
        for domain in author_domains(section).domains:
            while "." in domain:
                if keys := self._keys_for(domain):
                    return keys
                domain = domain.partition(".")[2]
        return ()
