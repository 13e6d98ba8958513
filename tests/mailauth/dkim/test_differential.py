"""We, dkimpy, OpenDKIM and Mail::DKIM sign messages made at random, something happens to them on
the way, and all four judge each signature. Where they disagree, an RFC says who is right, or the
test fails. DKIM_MESSAGES=5000 DKIM_SEED=7 make it long; `-s` shows the table of disagreements."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from random import Random
from typing import Any

import dkim as dkimpy
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.mailauth.dkim.canonical import Canonicalization
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.sign import SignOptions
from posthouse.message.fields import read_section
from tests.interop.programs import needs_program
from tests.mailauth.arc.lab import count_sets, seal
from tests.mailauth.arc.lab import judge as judge_chain
from tests.mailauth.dkim import letters
from tests.mailauth.dkim.lab import DOMAIN, judge, key, records, sign
from tests.mailauth.dkim.letters import CHANGES, Letter, letter

pytestmark = [
    needs_program("opendkim", package="opendkim"),
    needs_program("perl", package="libmail-dkim-perl", perl=("Mail::DKIM",)),
]


"""The others look at the machine's clock."""
MESSAGES = int(os.environ.get("DKIM_MESSAGES", "200"))
SEED = int(os.environ.get("DKIM_SEED", "1"))
PEERS = Path(__file__).parent / "peers"
FOUND = records()
WAYS = [(header, body) for header in ("simple", "relaxed") for body in ("simple", "relaxed")]

logging.getLogger("dkimpy").addHandler(logging.NullHandler())


# --- the four ---


class Peer:
    """A program that answers a line of JSON with one."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def ask(self, **order: str | int) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline() or '[["died", ""]]')

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class Others:
    def __init__(self, folder: Path) -> None:
        file = folder / "records.json"
        file.write_text(json.dumps(FOUND))
        library = find_library("opendkim") or "libopendkim.so.11"
        self.opendkim = Peer(sys.executable, str(PEERS / "opendkim.py"), library, str(file))
        self.mail_dkim = Peer("perl", str(PEERS / "mail_dkim.pl"), str(file))

    def close(self) -> None:
        self.opendkim.close()
        self.mail_dkim.close()


def now() -> int:
    """The peers have no clock but the machine's, so everybody goes by it."""
    return int(time.time())


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    made = Others(tmp_path_factory.mktemp("dkim"))
    yield made
    made.close()


def pem(traditional: bool = True) -> bytes:
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return key(RSA).private.private_bytes(Encoding.PEM, form, NoEncryption())


def ed25519_pem() -> bytes:
    return key(ED25519).private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def ed25519_seed() -> bytes:
    private = key(ED25519).private
    assert isinstance(private, Ed25519PrivateKey)
    return b64encode(private.private_bytes_raw())


def by_dkimpy(message: bytes) -> list[list[str]]:
    try:
        checked = dkimpy.DKIM(message)
    except dkimpy.DKIMException as error:
        return [["fail", str(error)]] * read_section(message).count(b"dkim-signature")
    found = []
    for at in range(read_section(message).count(b"dkim-signature")):
        try:
            passed = checked.verify(at, dnsfunc=lambda name, timeout=5: txt(name))
            found.append(["pass" if passed else "fail", ""])
        except dkimpy.DKIMException as error:
            found.append(["fail", str(error)])
    return found


def txt(name: bytes) -> bytes:
    return FOUND[name.decode().rstrip(".")].encode()


def signed_by_us(_: Others, message: bytes, how: tuple[str, str]) -> bytes:
    options = SignOptions(header_how=Canonicalization(how[0]), body_how=Canonicalization(how[1]))
    return sign(message, key(RSA), key(ED25519), now=now(), expires_s=None, options=options)


def signed_by_dkimpy(_: Others, message: bytes, how: tuple[str, str]) -> bytes:
    fields = b""
    for algorithm, selector, private in (
        (b"rsa-sha256", b"r", pem()),
        (b"ed25519-sha256", b"e", ed25519_seed()),
    ):
        fields += dkimpy.DKIM(message, signature_algorithm=algorithm).sign(
            selector, DOMAIN.encode(), private, canonicalize=tuple(each.encode() for each in how)
        )
    return fields + message


def signed_by_opendkim(others: Others, message: bytes, how: tuple[str, str]) -> bytes:
    fields = ""
    for algorithm, private in ((RSA, pem()), (ED25519, ed25519_pem())):
        fields += others.opendkim.ask(
            do="sign",
            message=message.decode("latin-1"),
            algorithm=algorithm,
            private=private.decode(),
            header=how[0],
            body=how[1],
            now=now(),
        )
    return fields.encode("latin-1") + message


def signed_by_mail_dkim(others: Others, message: bytes, how: tuple[str, str]) -> bytes:
    field = others.mail_dkim.ask(
        do="sign",
        message=message.decode("latin-1"),
        algorithm=RSA,
        private="".join(pem().decode().splitlines()[1:-1]),
        header=how[0],
        body=how[1],
        now=now(),
    )
    assert isinstance(field, str), field
    return field.encode("latin-1") + message


SIGNERS = {
    "we": signed_by_us,
    "dkimpy": signed_by_dkimpy,
    "OpenDKIM": signed_by_opendkim,
    "Mail::DKIM": signed_by_mail_dkim,
}
JUDGES: dict[str, Callable[[Others, bytes], list[list[str]]]] = {
    "dkimpy": lambda others, message: by_dkimpy(message),
    "OpenDKIM": lambda others, message: others.opendkim.ask(
        do="verify", message=message.decode("latin-1")
    ),
    "Mail::DKIM": lambda others, message: others.mail_dkim.ask(
        do="verify", message=message.decode("latin-1")
    ),
}


# --- where they disagree ---


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One signature that another judges otherwise than we do."""

    signer: str
    judge: str
    change: str
    how: tuple[str, str]
    algorithm: str
    traits: frozenset[str]
    ours: str
    our_reason: str
    theirs: str
    their_reason: str
    message: bytes

    @property
    def body(self) -> bytes:
        return self.message[read_section(self.message).body :]

    @property
    def has_bare(self) -> bool:
        """A CR or LF that is no part of a CRLF, in the body."""
        return re.search(rb"\r(?!\n)|(?<!\r)\n", self.body) is not None

    @property
    def has_no_end(self) -> bool:
        """A last line without CRLF."""
        return self.body != b"" and not self.body.endswith(b"\r\n")


EXPLANATIONS: list[tuple[str, Callable[[Case], bool]]] = [
    (
        "RFC 8463 §3 adds Ed25519, which it does not know",
        lambda case: case.judge == "Mail::DKIM" and "unsupported algorithm" in case.their_reason,
    ),
    (
        # RFC 6376 §5.3 has the signer make CRLF of them before, so no verifier should see any.
        "RFC 5322 §2.3 forbids a CR or LF alone: it changes them, we hash what came",
        lambda case: case.judge in ("dkimpy", "OpenDKIM") and case.has_bare,
    ),
    (
        "RFC 6376 §3.4.4 adds a CRLF to a last line that has none, it refuses or forgets to",
        lambda case: (case.judge, case.how[1]) == ("OpenDKIM", "relaxed") and case.has_no_end,
    ),
    (
        "RFC 6376 §3.4.3 adds a CRLF to a last line that has none, it does not",
        lambda case: (case.judge, case.how[1]) == ("Mail::DKIM", "simple") and case.has_no_end,
    ),
    (
        "RFC 6376 §3.4.4 ignores blanks at the end of the last line, too, it does not",
        lambda case: (
            (case.judge, case.how[1]) == ("dkimpy", "relaxed") and case.body.endswith((b" ", b"\t"))
        ),
    ),
]
"""The RFC's words, and for which judge and messages they hold."""


def explained(case: Case) -> str:
    return next((text for text, holds in EXPLANATIONS if holds(case)), "")


def test_all_judge_a_message_alike(others: Others) -> None:
    chance = Random(SEED)
    agreed: Counter[tuple[str, str, str]] = Counter()
    known: Counter[tuple[str, str, str]] = Counter()
    unknown: list[Case] = []
    for _ in range(MESSAGES):
        made = letter(chance)
        how = chance.choice(WAYS)
        for signer, signs in SIGNERS.items():
            signed = signs(others, made.octets, how)
            change = chance.choice(CHANGES)
            changed = change(chance, signed)
            for case in disagreements(others, changed, agreed, signer, change.__name__, how, made):
                if text := explained(case):
                    known[case.judge, case.signer, text] += 1
                else:
                    unknown.append(case)
    report(agreed, known)
    assert sum(agreed.values()) > 3 * MESSAGES
    assert not unknown, show(unknown)


def disagreements(
    others: Others,
    changed: bytes,
    agreed: Counter[tuple[str, str, str]],
    signer: str,
    change: str,
    how: tuple[str, str],
    made: Letter,
) -> Iterator[Case]:
    ours = judge(changed, FOUND, now=now())
    for name, ask in JUDGES.items():
        theirs = ask(others, changed)
        if len(theirs) < len(ours):
            theirs = theirs + [["none", theirs[0][1] if theirs else ""]] * (len(ours) - len(theirs))
        for at, outcome in enumerate(ours):
            result, reason = theirs[at]
            if (outcome.result.value == "pass") == (result == "pass"):
                agreed[name, signer, result if result == "pass" else "no pass"] += 1
                continue
            yield Case(
                signer=signer,
                judge=name,
                change=change,
                how=how,
                algorithm=outcome.algorithm or "unreadable",
                traits=made.traits,
                ours=outcome.result.value,
                our_reason=outcome.reason,
                theirs=result,
                their_reason=reason,
                message=changed,
            )


def report(agreed: Counter[tuple[str, str, str]], known: Counter[tuple[str, str, str]]) -> None:
    print(f"\n{MESSAGES} messages, seed {SEED}; judge, signer, result: signatures judged as we do")
    for (name, signer, result), count in sorted(agreed.items()):
        print(f"{name:12} {signer:12} {result:8} {count:6}")
    print("judged otherwise, and why")
    for (name, signer, text), count in sorted(known.items()):
        print(f"{name:12} {signer:12} {count:6}  {text}")


def show(cases: list[Case]) -> str:
    kinds = Counter((case.judge, case.signer, case.change, case.algorithm) for case in cases)
    return f"{len(cases)} disagreements: {kinds}\n" + "\n".join(map(repr, cases[:5]))


# --- chains of forwarders ---


def sealed_by_us(message: bytes) -> bytes:
    return seal(message, signer=key(RSA))


def sealed_by_dkimpy(message: bytes) -> bytes:
    found = b"Authentication-Results: mx.example.org; spf=pass smtp.mfrom=a@b.example\r\n"
    if count_sets(message):
        found = found.replace(b";", b"; arc=pass;", 1)
    fields = dkimpy.ARC(found + message).sign(b"r", DOMAIN.encode(), pem(), b"mx.example.org")
    return b"".join(fields) + message


def chain_by_dkimpy(message: bytes) -> str:
    try:
        status, _, _ = dkimpy.ARC(message).verify(dnsfunc=lambda name, timeout=5: txt(name))
    except dkimpy.DKIMException:
        return "fail"
    return {dkimpy.CV_Pass: "pass", dkimpy.CV_None: "none"}.get(status, "fail")


def test_all_judge_a_chain_alike(others: Others) -> None:  # RFC 8617 §5.2
    chance = Random(SEED)
    seen: Counter[str] = Counter()
    for _ in range(MESSAGES // 2):
        made = letter(chance)
        if made.traits & {"bare CR or LF", "no line end"}:
            continue  # judged otherwise as above
        message = made.octets
        for _ in range(chance.randrange(4)):
            message = chance.choice((sealed_by_us, sealed_by_dkimpy))(message)
        change = chance.choice((letters.untouched, letters.field_on_top, letters.a_line_at_the_end))
        message = change(chance, message)
        ours = judge_chain(message, FOUND, now=now())
        theirs = others.mail_dkim.ask(do="arc", message=message.decode("latin-1"))
        found = (ours.result.value, chain_by_dkimpy(message), theirs[0])
        assert len(set(found)) == 1, (found, ours.reason, theirs, message)
        seen[found[0]] += 1
    print(f"\n{seen} chains")
    assert set(seen) == {"pass", "fail", "none"}
