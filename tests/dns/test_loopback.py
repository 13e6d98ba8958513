"""The same resolver over this machine's sockets."""

import asyncio

from posthouse.dns.options import Options
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.ports import DnsStatus, MxRecord, RecordType
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.sim.dns import DnsFault, Zones
from posthouse.sim.dns_server import LabDns


# F23
async def test_udp_tcp_and_a_closed_port_of_real_servers() -> None:
    zones = Zones()
    zones.add("example.test", "MX", "10 mail.example.test.")
    zones.add("big.example.test", "TXT", *(f'"{number:0200}"' for number in range(50)))
    zones.sign("example.test")
    zones.fault("refused.test", DnsFault.REFUSED)
    gone, server = LabDns(zones), LabDns(zones)
    await gone.serve_loopback()
    await server.serve_loopback()
    gone.close()
    await asyncio.sleep(0)  # its socket is closed by the loop
    resolver = CachingResolver(
        Options(servers=(gone.address, server.address)),
        network=SystemNetwork(),
        clock=SystemClock(),
        chance=SystemChance(),
    )
    mx = await resolver.resolve("example.test", RecordType.MX)
    assert (mx.status, mx.records) == (DnsStatus.FOUND, (MxRecord(10, "mail.example.test"),))
    assert mx.is_authenticated  # loopback
    assert len((await resolver.resolve("big.example.test", RecordType.TXT)).records) == 50
    assert resolver.counts.tcp == 1
    refused = await resolver.resolve("refused.test", RecordType.MX)
    assert refused.status is DnsStatus.TEMPFAIL
    assert "REFUSED" in refused.detail
    assert "unreachable" in refused.detail
    server.close()
