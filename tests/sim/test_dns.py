"""Zones, and the DNS of the laboratory on real sockets."""

import asyncio
import struct

import dns.flags
import dns.message
import dns.rcode
import pytest

from posthouse.kernel.ports import DnsStatus, MxRecord, RecordType
from posthouse.protocol.dns.grammar import Truncated, encode_question, read_response
from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from posthouse.sim.dns_server import LabDns
from posthouse.sim.world import World, run_virtual

ZONE = """
@      300 IN SOA ns hostmaster 1 3600 600 604800 60
@      300 IN NS  ns
@      300 IN MX  10 mail
mail   300 IN A   192.0.2.1
*.wild 300 IN MX  5 mail
there.wild 300 IN A 192.0.2.2
x.deep 300 IN A   192.0.2.3
alias  300 IN CNAME mail
out    300 IN CNAME www.other.test.
"""


WILD = MxRecord(5, "mail.example.test")


@pytest.fixture
def zones() -> Zones:
    made = Zones()
    made.load("example.test", ZONE)
    made.add("www.other.test", "A", "192.0.2.9")
    return made


@pytest.mark.parametrize(
    ("name", "record_type", "status", "records"),
    [
        ("example.test", RecordType.MX, DnsStatus.FOUND, (MxRecord(10, "mail.example.test"),)),
        ("a.wild.example.test", RecordType.MX, DnsStatus.FOUND, (WILD,)),
        ("a.wild.example.test", RecordType.A, DnsStatus.NO_DATA, ()),
        ("there.wild.example.test", RecordType.MX, DnsStatus.NO_DATA, ()),  # RFC 4592
        ("deep.example.test", RecordType.A, DnsStatus.NO_DATA, ()),  # an empty non-terminal
        ("nowhere.example.test", RecordType.A, DnsStatus.NO_NAME, ()),
        ("alias.example.test", RecordType.A, DnsStatus.FOUND, ("192.0.2.1",)),
        ("out.example.test", RecordType.A, DnsStatus.FOUND, ("192.0.2.9",)),
        ("unknown.zone", RecordType.A, DnsStatus.NO_NAME, ()),
        ("a..b", RecordType.A, DnsStatus.NO_NAME, ()),
    ],
)
def test_zones_answer_as_an_authority_would(
    zones: Zones, name: str, record_type: RecordType, status: DnsStatus, records: tuple[object, ...]
) -> None:
    answer = run_virtual(lambda _: ZoneResolver(zones).resolve(name, record_type))
    assert (answer.status, answer.records) == (status, records)


@pytest.mark.parametrize("fault", list(DnsFault))
def test_faults_of_names_show_through_the_resolver_in_memory(zones: Zones, fault: DnsFault) -> None:
    async def main(world: World) -> list[DnsStatus]:
        resolver = ZoneResolver(zones)
        zones.fault("example.test", fault, record_type=RecordType.MX, times=1)
        return [
            (await resolver.resolve("example.test", record_type)).status
            for record_type in (RecordType.A, RecordType.MX, RecordType.MX)
        ]

    answered = {DnsFault.TRUNCATED: DnsStatus.FOUND, DnsFault.EMPTY: DnsStatus.NO_DATA}
    expected = answered.get(fault, DnsStatus.TEMPFAIL)
    assert run_virtual(main) == [DnsStatus.NO_DATA, expected, DnsStatus.FOUND]


def test_records_can_be_taken_away_and_faults_healed(zones: Zones) -> None:
    async def main(world: World) -> list[DnsStatus]:
        resolver = ZoneResolver(zones)
        zones.fault("mail.example.test", DnsFault.SERVFAIL)
        broken = await resolver.resolve("mail.example.test", RecordType.A)
        zones.heal("mail.example.test")
        healed = await resolver.resolve("mail.example.test", RecordType.A)
        zones.remove("mail.example.test", "A")
        gone = await resolver.resolve("mail.example.test", RecordType.A)
        return [broken.status, healed.status, gone.status]

    found = run_virtual(main)
    assert found == [DnsStatus.TEMPFAIL, DnsStatus.FOUND, DnsStatus.NO_NAME]


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.heard.put_nowait(data)


def test_the_laboratory_answers_on_loopback_by_udp_and_tcp(zones: Zones) -> None:
    zones.add("big.example.test", "TXT", *(f'"{number:0200}"' for number in range(50)))
    zones.sign("example.test")

    async def main() -> None:
        server = LabDns(zones)
        await server.serve_loopback()
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=server.address
        )
        question = encode_question("big.example.test", RecordType.TXT, message_id=77)
        transport.sendto(b"nonsense")
        transport.sendto(question)
        cut = await client.heard.get()
        asked = {"name": "big.example.test", "record_type": RecordType.TXT, "message_id": 77}
        assert isinstance(read_response(cut, **asked), Truncated)
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(struct.pack("!H", len(question)) + question)
        whole = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        answer = dns.message.from_wire(whole)
        assert len(answer.answer[0]) == 50
        assert answer.flags & dns.flags.AD
        transport.close()
        server.close()
        assert await reader.read() == b""
        writer.close()

    asyncio.run(main())


def test_two_servers_cannot_share_a_port(zones: Zones) -> None:
    async def main() -> None:
        one, other = LabDns(zones), LabDns(zones)
        await one.serve_loopback()
        with pytest.raises(OSError):
            await other.serve_loopback(*one.address)
        one.close()

    asyncio.run(main())
