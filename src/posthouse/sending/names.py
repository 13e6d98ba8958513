"""Host names looked up as this machine does it, for fetching: the port `Resolver` over the system's
own, which knows its hosts file and search rules; a client library has no name server to ask."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType

__all__ = ["SystemResolver"]

_FAMILIES: Final = {RecordType.A: socket.AF_INET, RecordType.AAAA: socket.AF_INET6}
_NOTHING: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class SystemResolver:
    """Addresses only: other records cannot be asked for this way."""

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        """As the port says."""
        family = _FAMILIES.get(record_type)
        if family is None:
            detail = f"the system's resolver does not know {record_type.value} records"
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=detail)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NOTHING:
                return DnsAnswer(status=DnsStatus.NO_DATA)
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=error.strerror or str(error))
        except (OSError, UnicodeError) as error:
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=str(error))
        addresses = dict.fromkeys(str(item[4][0]) for item in found)
        return DnsAnswer(status=DnsStatus.FOUND, records=tuple(addresses), name=name)

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        """Never: the system keeps what it knows to itself."""
        return None
