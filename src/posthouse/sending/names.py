"""Host names looked up as this machine does it, by its hosts file and search rules, as a client
library has no name server to ask. For fetching that is the port `Resolver`."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType

__all__ = ["SystemResolver", "addresses_of"]

_FAMILIES: Final = {RecordType.A: socket.AF_INET, RecordType.AAAA: socket.AF_INET6}
_NOTHING: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


async def addresses_of(
    host: str, port: int | None = None, *, family: socket.AddressFamily = socket.AF_UNSPEC
) -> list[str]:
    """In the system's order, each once; in place where the loop gets no thread for it, as the
    program is ending. Raises OSError, UnicodeError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
    except RuntimeError:
        found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class SystemResolver:
    """Addresses only: other records cannot be asked for this way."""

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        """As the port says."""
        family = _FAMILIES.get(record_type)
        if family is None:
            detail = f"the system's resolver does not know {record_type.value} records"
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=detail)
        try:
            found = await addresses_of(name, family=family)
        except socket.gaierror as error:
            if error.errno in _NOTHING:
                return DnsAnswer(status=DnsStatus.NO_DATA)
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=error.strerror or str(error))
        except (OSError, UnicodeError) as error:
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=str(error))
        return DnsAnswer(status=DnsStatus.FOUND, records=tuple(found), name=name)

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        """Never: the system keeps what it knows to itself."""
        return None
