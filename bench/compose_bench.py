"""Compose, sign and encrypt messages in memory, one process each, in turns: our library beside the
standard library, nodemailer and (for S/MIME signatures) cryptography's own PKCS #7 builder.

  compose_bench.py --count 10000 --runs 3

compose: a text, an HTML version and an attachment of 20 KiB to octets. smime-sign, smime-seal,
pgp-sign, pgp-seal: that message signed or encrypted (P-256 and AES-256; Curve 25519) with keys that
are loaded. Prints a record per turn and the medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import benchlib as B

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "senders"))
TURNS = (
    ("compose", "posthouse"), ("compose", "stdlib"), ("compose", "nodemailer"),
    ("smime-sign", "posthouse"), ("smime-sign", "cryptography"),
    ("smime-seal", "posthouse"), ("pgp-sign", "posthouse"), ("pgp-seal", "posthouse"),
)
NODE = """
const { createRequire } = require("module"); const path = require("path");
const need = createRequire(path.join(process.env.POSTHOUSE_NODE_MODULES, "x.js"));
const Composer = need("nodemailer/lib/mail-composer");
const text = "Dear reader,\\n\\n" + "this line is as long as lines of letters mostly are, or nearly.\\n".repeat(14);
const html = "<p>" + text.replace(/\\n/g, "<br>\\n") + "</p>"; const content = Buffer.alloc(20480, 7);
const count = Number(process.argv[1]);
(async () => {
  const began = process.hrtime.bigint(), cpu = process.cpuUsage();
  for (let n = 0; n < count; n++) {
    await new Promise((done, failed) => new Composer({
      from: "Ada Lovelace <ada@bench.test>", to: `Bob <bob${n}@sink.test>`,
      subject: `Letter number ${n}`, text, html, attachments: [{ filename: "data.bin", content }],
    }).compile().build((error, made) => error ? failed(error) : done(made)));
  }
  const used = process.cpuUsage(cpu);
  console.log(JSON.stringify({ seconds: Number(process.hrtime.bigint() - began) / 1e9,
    cpu_s: (used.user + used.system) / 1e6, rss_mib: process.resourceUsage().maxRSS / 1024 }));
})();
"""


def worker(kind, way):
    """What is done for each number."""
    from by_python import posthouse_message, stdlib_message

    if way == "stdlib":
        return lambda n: stdlib_message(n, "html", b"").as_bytes()
    from datetime import UTC, datetime

    from posthouse.sending.compose import compose

    now = datetime.now(UTC)

    def composed(n):
        return compose(posthouse_message(n, "html"), now=now, token=os.urandom, host_name="bench.test")

    if kind == "compose":
        return composed
    octets = composed(1).octets
    if way == "cryptography":
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.serialization import pkcs7

        from posthouse.mimesec.smime import make_identity

        own = make_identity(["ada@bench.test"], at=now, days=9)
        from cryptography import x509

        certificate = x509.load_der_x509_certificate(own.certificate.octets)
        options = [pkcs7.PKCS7Options.DetachedSignature]
        return lambda n: (
            pkcs7.PKCS7SignatureBuilder().set_data(octets)
            .add_signer(certificate, own.key, hashes.SHA256())
            .sign(serialization.Encoding.SMIME, options)
        )
    from posthouse.mimesec import Protection, protect

    if kind.startswith("smime"):
        from posthouse.mimesec.smime import SmimeRecipient, SmimeSealer, SmimeSigner, make_identity

        own = make_identity(["ada@bench.test"], at=now, days=9)
        signer, to, sealer = SmimeSigner(own), SmimeRecipient(own.certificate), SmimeSealer()
    else:
        from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, PgpSigner, make_key

        own, _ = make_key(["ada@bench.test"], at=now, days=9)
        signer, to, sealer = PgpSigner(own), PgpRecipient(own.public), PgpSealer()
    wish = Protection(signer=signer)
    if kind.endswith("seal"):
        wish = Protection(sealer=sealer, recipients=(to,))
    return lambda n: protect(octets, wish, at=now)


def turn(kind, way, count):
    import resource

    do = worker(kind, way)
    do(0)
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        do(n)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "rss_mib": rss}))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--count", type=int, default=10_000)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    ap.add_argument("--out")
    a = ap.parse_args()
    if a.turn:
        return turn(*a.turn, a.count)
    seen = {}
    for run in range(a.runs):
        for kind, way in TURNS:
            if way == "nodemailer":
                if "POSTHOUSE_NODE_MODULES" not in os.environ:
                    continue
                command = ["node", "-e", NODE, str(a.count)]
            else:
                command = [sys.executable, __file__, "--count", str(a.count), "--turn", kind, way]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{kind} {way}: {done.stderr[-2000:]}", file=sys.stderr)
                continue
            got = json.loads(done.stdout)
            rec = {"bench": "compose", "kind": kind, "way": way, "run": run, "count": a.count,
                   "rate": a.count / got["seconds"], "cpu_ms": got["cpu_s"] / a.count * 1e3, **got}
            B.emit(rec, a.out)
            seen.setdefault((kind, way), []).append(rec)
    print("| what | way | messages/s | CPU ms each | MiB |")
    print("|---|---|---|---|---|")
    for (kind, way), recs in seen.items():
        rate, cpu, rss = (statistics.median(r[k] for r in recs) for k in ("rate", "cpu_ms", "rss_mib"))
        print(f"| {kind} | {way} | {rate:,.0f} | {cpu:.2f} | {rss:.0f} |")


if __name__ == "__main__":
    main()
