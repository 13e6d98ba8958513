"""Random senders, records and zones, many of them odd, from a seed."""

from __future__ import annotations

from random import Random

import msgspec

from tests.mailauth.spf.zone import TIMEOUT

NAMES = [f"{letter}.example" for letter in "abcdefgh"] + ["example.org", "x.a.example"]
GONE = ["gone.example", "no..such.example", "l" * 64 + ".example"]
ADDRESSES_4 = ["192.0.2.1", "192.0.2.77", "198.51.100.1", "203.0.113.200"]
ADDRESSES_6 = ["2001:db8::1", "2001:db8::ff01", "2001:db8:1::1"]
CLIENTS = [*ADDRESSES_4, *ADDRESSES_6, "::ffff:192.0.2.1"]
HELOS = ["mx.example.org", "a.example", "OEMCOMPUTER", "[192.0.2.1]", "x y.example"]
LOCAL_PARTS = ["joe", "strong-bad", "a+b-c.d", "jack&jill=up", "", "x" * 64, "~a_b"]
MACROS = (
    [f"%{{{letter}}}" for letter in "slodivhSLODH"]
    + ["%{p}", "%{ir}", "%{d2}", "%{d1r}", "%{l1r-}", "%{lr+}", "%{L-}", "%{l2r+-}", "%{o9}"]
    + ["%{d128}", "%%", "%_", "%-"]
)
BROKEN_MACROS = [
    "%{d0}",
    "%{d00r}",
    "%{a}",
    "%{c}",
    "%{dd}",
    "%{l1r999}",
    "%{d!}",
    "%(d)",
    "%{d",
    "%",
]
BROKEN = [
    *BROKEN_MACROS,
    "moo",
    "all.",
    "all:b.example",
    "a/33",
    "a//129",
    "a/024",
    "a/24/64",
    "ptr/8",
    "include",
    "include:",
    "exists",
    "ip4",
    "ip4:192.0.2",
    "ip4:192.0.2.01",
    "ip4:192.0.2.0/33",
    "ip6:1::2::3",
    "ip6:2001:db8::/129",
    "a:museum",
    "a:192.0.2.1",
    "a:b.-com",
    "redirect=",
    "redirect:b.example",
    "exp=",
    "1up=x",
    "=x",
    "foo=%x",
    "a:b.exampl\u00e9",
    "mx:b.example:25",
]


class Policy(msgspec.Struct, frozen=True):
    ip: str
    helo: str
    sender: str
    zone: dict[str, dict[str, object]]


def policy(seed: int) -> Policy:
    chance = Random(seed)
    zone: dict[str, dict[str, object]] = {}
    hostility = chance.choice((0.0, 0.0, 0.02, 0.2))
    for name in NAMES:
        if chance.random() < 0.9:
            zone[name] = _records(chance, hostility)
    ip = chance.choice(CLIENTS)
    for reverse in REVERSES:
        if chance.random() < 0.6:
            names = chance.choices(NAMES + GONE[:1], k=chance.choice((1, 1, 2, 3, 12)))
            zone[reverse] = {"PTR": list(dict.fromkeys(names))}
        elif chance.random() < 0.2:
            zone[reverse] = {"PTR": TIMEOUT}
    domain = chance.choice(NAMES[:4])
    zone.setdefault(domain, {})["TXT"] = _record(chance, hostility)
    sender = f"{chance.choice(LOCAL_PARTS)}@{domain}"
    return Policy(ip, chance.choice(HELOS), sender, zone)


REVERSES = [
    *(".".join(reversed(each.split("."))) + ".in-addr.arpa" for each in ADDRESSES_4),
    "1.0." + "0." * 22 + "8.b.d.0.1.0.0.2.ip6.arpa",
]


def _records(chance: Random, hostility: float) -> dict[str, object]:
    found: dict[str, object] = {}
    if chance.random() < 0.7:
        found["A"] = chance.sample(ADDRESSES_4, chance.randint(1, 3))
    if chance.random() < 0.6:
        found["AAAA"] = chance.sample(ADDRESSES_6, chance.randint(1, 2))
    if chance.random() < 0.7:
        hosts = chance.choices(NAMES + GONE[:1], k=chance.choice((1, 1, 2, 3)))
        if chance.random() < 0.05:
            hosts = [f"mx{at}.example" for at in range(chance.choice((10, 11, 40)))]
        found["MX"] = [(at, host) for at, host in enumerate(dict.fromkeys(hosts))]
    if chance.random() < 0.05:
        found["MX"] = [(0, "")]
    choice = chance.random()
    if choice < 0.75:
        found["TXT"] = _record(chance, hostility)
    elif choice < 0.8:
        found["TXT"] = [_record(chance, hostility), _record(chance, hostility)]
    elif choice < 0.9:
        found["TXT"] = _explanation(chance)
    for kind in ("A", "AAAA", "MX", "TXT"):
        if chance.random() < hostility / 4:
            found[kind] = TIMEOUT
    return found


def _record(chance: Random, hostility: float) -> str:
    count = chance.choice((0, 1, 2, 3, 3, 4, 6, 14))
    terms = [_directive(chance) for _ in range(count)]
    if chance.random() < 0.6:
        terms.append(chance.choice(("-all", "-all", "~all", "?all", "all")))
    if chance.random() < 0.25:
        terms.insert(chance.randint(0, len(terms)), f"redirect={_domain(chance)}")
    if chance.random() < 0.3:
        name = chance.choice(("exp", "exp", "EXP"))
        terms.insert(chance.randint(0, len(terms)), f"{name}={_domain(chance)}")
    for unknown in ("foo=bar", "foo=%{d}", "x-y_z.1=", "default=-"):
        if chance.random() < 0.04:
            terms.insert(chance.randint(0, len(terms)), unknown)
    if chance.random() < hostility:
        terms.insert(chance.randint(0, len(terms)), chance.choice(BROKEN))
    version = chance.choice(("v=spf1",) * 8 + ("V=SPF1",))
    return " ".join((version, *terms)) + " " * chance.choice((0, 0, 0, 1))


def _directive(chance: Random) -> str:
    qualifier = chance.choice(("", "", "", "+", "-", "~", "?"))
    kind = chance.choice(
        ("ip4", "ip4", "ip6", "a", "a", "mx", "ptr", "include", "include", "exists")
    )
    written = kind if chance.random() < 0.9 else kind.upper()
    match kind:
        case "ip4":
            length = chance.choice(("", "", "/32", "/24", "/0", "/31"))
            return f"{qualifier}{written}:{chance.choice(ADDRESSES_4)}{length}"
        case "ip6":
            length = chance.choice(("", "/128", "/64", "/32", "/0"))
            return f"{qualifier}{written}:{chance.choice((*ADDRESSES_6, '::192.0.2.1'))}{length}"
        case "a" | "mx":
            domain = f":{_domain(chance)}" if chance.random() < 0.7 else ""
            length = chance.choice(("", "", "", "/24", "//64", "/0", "//0", "/24//32"))
            return f"{qualifier}{written}{domain}{length}"
        case "ptr":
            domain = f":{_domain(chance)}" if chance.random() < 0.5 else ""
            return f"{qualifier}{written}{domain}"
        case _:
            return f"{qualifier}{written}:{_domain(chance)}"


def _domain(chance: Random) -> str:
    choice = chance.random()
    if choice < 0.7:
        return chance.choice(NAMES)
    if choice < 0.78:
        return chance.choice(GONE)
    if choice < 0.82:
        return f"{chance.choice(NAMES)}."
    macro = chance.choice(MACROS if choice < 0.99 else BROKEN_MACROS)
    if choice < 0.86:
        return macro
    if choice < 0.88:
        return f"{macro * 5}.{chance.choice(NAMES)}"
    return f"{macro}.{chance.choice(NAMES)}"


def _explanation(chance: Random) -> str:
    words = chance.choices([*MACROS, "%{c}", "%{r}", "see", "http://why.example/?", "%{x}"], k=4)
    return " ".join(words)
