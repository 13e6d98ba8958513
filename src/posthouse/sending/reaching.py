"""The way to a server: its addresses, and what is said when none of them can be reached."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from typing import Final

from posthouse.sending import mistakes
from posthouse.sending.errors import ConnectError, SendingError, SendTimeout
from posthouse.sending.names import addresses_of
from posthouse.sending.options import Options
from posthouse.sending.proxying import ProxyFailed

__all__ = ["addresses", "not_reached"]

ADDRESSES_MAX: Final = 8


async def addresses(options: Options) -> list[str]:
    """Both families, as the system orders them; a socket is its path, and a proxy looks names up
    by itself. Raises SendingError."""
    host = options.host
    if options.socket_path:
        return [options.socket_path]
    if options.proxy is not None or _is_address(host):
        return [host]
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            return (await addresses_of(host, options.port))[:ADDRESSES_MAX]
    except TimeoutError as error:
        raise mistakes.connect_failed(options, error) from None
    except (OSError, UnicodeError) as error:
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise mistakes.name_unknown(options, cause) from error


def not_reached(options: Options, error: OSError) -> SendingError:
    """The last of the addresses took no connection either."""
    if isinstance(error, ProxyFailed):
        return error.told(options.place)
    if options.socket_path:
        return _socket_failed(options, error)
    return mistakes.connect_failed(options, error)


_SOCKET_HINTS: Final = {
    errno.ENOENT: "is the server running, and is this the path of its socket?",
    errno.ECONNREFUSED: "the server that made this socket does not run any more",
    errno.EACCES: "the server's configuration says which user and group may use its socket",
}


def _socket_failed(options: Options, error: OSError) -> SendingError:
    place = options.place
    if isinstance(error, TimeoutError):
        words = f"{place} took no connection within {options.connect_timeout_s:g} s"
        hint = "its server has too much to do, or hangs"
        return SendTimeout(words, hint=hint, server=place, is_transient=True)
    return ConnectError(
        f"{place} cannot be reached: {mistakes.error_words(error)}",
        hint=_SOCKET_HINTS.get(error.errno or 0, "is this the path of the server's socket?"),
        server=place,
        is_transient=error.errno in (errno.ENOENT, errno.ECONNREFUSED),
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
