"""A resolver that knows what it is told, with and without proof."""

from __future__ import annotations

from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType, TlsaRecord

FAILS = DnsAnswer(status=DnsStatus.TEMPFAIL, detail="SERVFAIL")


class Proven:
    """Names exist where something was said of them; `sign` makes what is under a name proven."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, RecordType], DnsAnswer] = {}
        self.signed: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def mx(self, name: str, *hosts: str) -> Proven:
        records = tuple(MxRecord(10 * n, host) for n, host in enumerate(hosts, 1))
        return self.put(name, RecordType.MX, records)

    def at(self, name: str, *addresses: str) -> Proven:
        for kind in (RecordType.A, RecordType.AAAA):
            found = tuple(a for a in addresses if (":" in a) == (kind is RecordType.AAAA))
            if found:
                self.put(name, kind, found)
        return self

    def tlsa(self, name: str, *records: TlsaRecord, port: int = 25) -> Proven:
        return self.put(f"_{port}._tcp.{name}", RecordType.TLSA, records)

    def alias(self, name: str, target: str) -> Proven:
        return self.put(name, RecordType.CNAME, (target,))

    def put(self, name: str, kind: RecordType, records: tuple) -> Proven:
        self.answers[name, kind] = DnsAnswer(status=DnsStatus.FOUND, records=records)
        return self

    def fail(self, name: str, kind: RecordType) -> Proven:
        self.answers[name, kind] = FAILS
        return self

    def sign(self, *zones: str) -> Proven:
        self.signed.update(zones)
        return self

    def is_signed(self, name: str) -> bool:
        return any(name == zone or name.endswith(f".{zone}") for zone in self.signed)

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        self.asked.append((name, record_type.value))
        is_authenticated = self.is_signed(name)
        while (name, record_type) not in self.answers:
            alias = self.answers.get((name, RecordType.CNAME))
            if alias is None or record_type is RecordType.CNAME:
                break
            (name,) = alias.records
            is_authenticated &= self.is_signed(name)
        found = self.answers.get((name, record_type), DnsAnswer(status=DnsStatus.NO_DATA))
        return DnsAnswer(
            status=found.status,
            records=found.records,
            detail=found.detail,
            name=name,
            is_authenticated=is_authenticated and found.status is not DnsStatus.TEMPFAIL,
        )

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return None
