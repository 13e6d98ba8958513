"""What mail authentication costs in process, on one thread, with the DNS known: CPU time, ours beside dkimpy's.

  auth_bench.py                        everything; some minutes
  auth_bench.py --quick                a look: the figures of such a run are not to be reported
  auth_bench.py --only check,asked     SPF + DKIM + ARC + DMARC + reverse DNS of whole messages
  auth_bench.py --only verify,sign     one signature, ours and dkimpy's (pip install dkimpy) in turns

asked   as check, but the DNS is asked for everything, over loopback, 10 messages at a time: rate and CPU; the DNS
        is another process
check   read_section, all checks, the judgement and Authentication-Results, as reception does it, for
        messages signed by RSA 2048, by Ed25519 and by both; `hash` is SHA-256 of the octets alone
verify  one RSA 2048 or Ed25519 signature of a message, the key record at hand
sign    the same, the private key at hand

The contenders take turns in each round; what counts is the median of the rounds. CPU time of the process,
so a neighbour's load counts little; still, only figures of one run may be compared.
"""
from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import benchlib as B

from posthouse.dns.options import Options as DnsOptions
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import DnsAnswer, DnsStatus
from posthouse.mailauth import authres, check, policy
from posthouse.mailauth.dkim import verify as dkim
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import SigningKey, generate, load_private, sign
from posthouse.mailauth.questions import answer
from posthouse.mailauth.results import Result
from posthouse.message.fields import read_section
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.sim.dns import Zones
from posthouse.sim.dns_server import LabDns
from posthouse.sim.workers import InlineWorkers

DOMAIN = "signed.test"
ADDRESS = "198.51.100.7"
HELLO = f"mail.{DOMAIN}"
HOST = "mx.bench.test"
WORKERS = InlineWorkers()  # two signatures are never given to one
NOW = 1_790_000_000
POOL = 64
CONCURRENT = 10
SIGNERS = {"rsa": (RSA,), "ed25519": (ED25519,), "both": (RSA, ED25519)}
SELECTORS = {RSA: "rsa", ED25519: "ed"}
CHECK_SIZES = (4096, 102_400)
SIGN_SIZES = (5120, 102_400)

Work = Callable[[int], object]


class Keys:
    def __init__(self) -> None:
        self.private, self.records, self.pem, self.seed = {}, {}, b"", b""
        for algorithm, selector in SELECTORS.items():
            new = generate(algorithm, rsa_bits=2048)
            private = load_private(new.private)
            self.private[algorithm] = SigningKey(domain=DOMAIN, selector=selector, algorithm=algorithm, private=private)
            self.records[selector] = key_record(algorithm, new.public)
            if algorithm == RSA:
                head, tail = b"-----BEGIN PRIVATE KEY-----\n", b"-----END PRIVATE KEY-----\n"
                self.pem = head + base64.encodebytes(new.private) + tail
            else:
                self.seed = base64.b64encode(private.private_bytes_raw())

    def signed(self, octets: bytes, algorithms: tuple[str, ...]) -> bytes:
        keys = [self.private[each] for each in algorithms]
        return sign(read_section(octets), keys, now_unix_s=NOW, expires_s=None) + octets

    def zone(self) -> list[tuple[str, str, str]]:
        found = [
            (DOMAIN, "TXT", f'"v=spf1 ip4:{ADDRESS} -all"'),
            (HELLO, "A", ADDRESS),
            (HELLO, "TXT", '"v=spf1 a -all"'),
            ("7.100.51.198.in-addr.arpa", "PTR", f"{HELLO}."),
            (f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=reject; rua=mailto:d@signed.test"'),
        ]
        for selector, record in self.records.items():
            pieces = " ".join(f'"{record[at : at + 250]}"' for at in range(0, len(record), 250))
            found.append((f"{selector}._domainkey.{DOMAIN}", "TXT", pieces))
        return found


def messages(octets: int) -> list[bytes]:
    text = B.Message(octets, to="u@bench.test")
    return [text.bytes(number).replace(b"sender@remote.test", b"x@signed.test") for number in range(POOL)]


# ------------------------------------------------------------------ contenders
OPTIONS = check.Options(receiver=HOST)
PATH = Address("x", DOMAIN)


def resolver_of(place: tuple[str, int], **more: float) -> CachingResolver:
    options = DnsOptions(servers=(place,), **more)
    return CachingResolver(options, network=SystemNetwork(), clock=SystemClock(), chance=SystemChance())


def begin(octets: bytes) -> tuple[check.Mail, check.Checks]:
    mail = check.Mail(octets=octets, section=read_section(octets), address=ADDRESS, hello=HELLO, reverse_path=PATH)
    return mail, check.Checks(mail, check.prepare(mail, OPTIONS), OPTIONS, now_unix_s=NOW)


def end(mail: check.Mail, checked: check.Checked | None) -> bytes:
    assert checked is not None and checked.counted.result is Result.PASS
    policy.judge(policy.Rules(), address=mail.address, spf=checked.spf, arc=checked.arc, dmarc=checked.counted)
    return authres.render(HOST, check.findings(checked, address=ADDRESS))


def whole_checks(place: tuple[str, int], octets: list[bytes]) -> dict[str, Work]:
    resolver = resolver_of(place, ttl_s_min=86_400.0)

    def ours(number: int) -> bytes:
        mail, checks = begin(octets[number % POOL])
        return end(mail, checks.start(resolver.known))

    async def warm() -> None:
        _, checks = begin(octets[0])
        if checks.start(resolver.known) is None:
            await checks.finish(resolver, SystemClock().sleep, WORKERS)

    B.run(warm())
    return {"posthouse": ours, "hash": lambda number: hashlib.sha256(octets[number % POOL]).digest()}


async def asked_checks(place: tuple[str, int], octets: list[bytes], seconds: float) -> dict[str, float]:
    """Every message asks for everything: its resolver knows nothing."""
    until, done = time.perf_counter() + seconds, 0

    async def one_after_another() -> None:
        nonlocal done
        while time.perf_counter() < until:
            resolver = resolver_of(place)
            mail, checks = begin(octets[done % POOL])
            checked = checks.start(resolver.known) or await checks.finish(resolver, SystemClock().sleep, WORKERS)
            end(mail, checked)
            done += 1

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(CONCURRENT)))
    return {"msgs_s": done / (time.perf_counter() - began), "cpu_us": (time.process_time() - cpu) / done * 1e6}


def ours_verifies(keys: Keys, octets: list[bytes]) -> Work:
    found = {f"{selector}._domainkey.{DOMAIN}": record.encode() for selector, record in keys.records.items()}
    answers = {name: DnsAnswer(status=DnsStatus.FOUND, name=name, records=(text,)) for name, text in found.items()}

    def work(number: int) -> None:
        one = octets[number % POOL]
        [outcome] = answer(dkim.verify(dkim.prepare(one, read_section(one)), NOW), lambda asked: answers[asked.name])
        assert outcome.result is Result.PASS
    return work


def ours_signs(keys: Keys, octets: list[bytes], algorithm: str) -> Work:
    signing = (keys.private[algorithm],)
    return lambda number: sign(read_section(octets[number % POOL]), signing, now_unix_s=NOW, expires_s=None)


def dkimpy_verifies(keys: Keys, octets: list[bytes]) -> Work:
    import dkim as dkimpy

    found = {f"{selector}._domainkey.{DOMAIN}.".encode(): record.encode() for selector, record in keys.records.items()}

    def work(number: int) -> None:
        assert dkimpy.verify(octets[number % POOL], dnsfunc=lambda name, timeout=5: found[bytes(name)])
    return work


def dkimpy_signs(keys: Keys, octets: list[bytes], algorithm: str) -> Work:
    import dkim as dkimpy

    private = keys.pem if algorithm == RSA else keys.seed
    # The fields that we sign, once each.
    names = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"]
    return lambda number: dkimpy.sign(
        octets[number % POOL], SELECTORS[algorithm].encode(), DOMAIN.encode(), private,
        canonicalize=(b"relaxed", b"relaxed"), signature_algorithm=algorithm.encode(), include_headers=names)


def has_dkimpy() -> bool:
    try:
        import dkim  # noqa: F401
    except ImportError:
        return False
    return True


# ------------------------------------------------------------------ measuring
def cpu_us(work: Work, seconds: float) -> float:
    """CPU microseconds of one run, over about `seconds` of it."""
    work(0)
    count, began, until = 0, time.process_time(), time.process_time() + seconds
    while True:
        for _ in range(8):
            work(count)
            count += 1
        now = time.process_time()
        if now >= until:
            return (now - began) / count * 1e6


def in_turns(contenders: dict[str, Work], rounds: int, seconds: float) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders.items())
        for name, work in order if number % 2 == 0 else reversed(order):
            taken[name].append(cpu_us(work, seconds))
    return {name: round(statistics.median(each), 1) for name, each in taken.items()}


def cells(groups: list[str], keys: Keys, place: tuple[str, int]):
    """What, size, signature, and who is measured in turns."""
    if "check" in groups:
        for octets in CHECK_SIZES:
            plain = messages(octets)
            for name, algorithms in SIGNERS.items():
                yield "check", octets, name, whole_checks(place, [keys.signed(each, algorithms) for each in plain])
    for octets in SIGN_SIZES:
        plain = messages(octets)
        for algorithm in SELECTORS:
            if "verify" in groups:
                signed = [keys.signed(each, (algorithm,)) for each in plain]
                work = {"posthouse": ours_verifies(keys, signed)}
                if has_dkimpy():
                    work["dkimpy"] = dkimpy_verifies(keys, signed)
                yield "verify", octets, algorithm, work
            if "sign" in groups:
                work = {"posthouse": ours_signs(keys, plain, algorithm)}
                if has_dkimpy():
                    work["dkimpy"] = dkimpy_signs(keys, plain, algorithm)
                yield "sign", octets, algorithm, work


def machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "python": platform.python_version()}


def measure_in_turns(groups: list[str], keys: Keys, place: tuple[str, int], rounds: int, seconds: float, out: str | None):
    for what, octets, signature, contenders in cells(groups, keys, place):
        us = in_turns(contenders, rounds, seconds)
        record = {"bench": "auth", "what": what, "size": B.size_name(octets), "signature": signature,
                  "cpu_us": us, "per_cpu_s": round(1e6 / us["posthouse"]), "rounds": rounds, **machine()}
        if "dkimpy" in us:
            record["times_dkimpy"] = round(us["dkimpy"] / us["posthouse"], 1)
        if "hash" in us:
            record["times_hash"] = round(us["posthouse"] / us["hash"], 2)
        B.emit(record, out)


def measure_asked(keys: Keys, place: tuple[str, int], rounds: int, seconds: float, out: str | None) -> None:
    for octets in CHECK_SIZES:
        signed = [keys.signed(each, SIGNERS["rsa"]) for each in messages(octets)]
        found = [B.run(asked_checks(place, signed, seconds)) for _ in range(rounds)]
        medians = {key: round(statistics.median(each[key] for each in found), 1) for key in found[0]}
        B.emit({"bench": "auth", "what": "asked", "size": B.size_name(octets), "signature": "rsa", **medians,
                "concurrent": CONCURRENT, "rounds": rounds, **machine()}, out)


# ------------------------------------------------------------------ the DNS, in a process of its own
async def serve() -> None:
    """Zone in from stdin, address out to stdout, until stdin ends."""
    zones = Zones()
    for record in json.loads(sys.stdin.readline()):
        zones.add(*record)
    server = LabDns(zones)
    await server.serve_loopback()
    print(json.dumps(server.address), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="check,asked,verify,sign")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each contender in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="as --seconds 0.02 --rounds 1")
    parser.add_argument("--out", help="append each record to this file")
    parser.add_argument("--serve-dns", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve_dns:
        asyncio.run(serve())
        return
    seconds, rounds = (0.02, 1) if a.quick else (a.seconds, a.rounds)
    keys, groups = Keys(), a.only.split(",")
    if not has_dkimpy():
        print("dkimpy is not installed: ours alone", file=sys.stderr)
    command = [sys.executable, __file__, "--serve-dns"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as dns:
        dns.stdin.write(json.dumps(keys.zone()) + "\n")
        dns.stdin.flush()
        place = tuple(json.loads(dns.stdout.readline()))
        B.quiet_gc()
        measure_in_turns(groups, keys, place, rounds, seconds, a.out)
        if "asked" in groups:
            measure_asked(keys, place, rounds, seconds, a.out)
        dns.stdin.close()


if __name__ == "__main__":
    main()
