"""Compose and send many messages from a program: Posthouse's library beside nodemailer, aiosmtplib
with the standard library, and smtplib, in turns, each to the same sink (`sink.py`, started here).

  send_bench.py --count 10000 --runs 3 --kinds text,html,dkim --ways posthouse,nodemailer

Each turn is a process of its own: composing included, connections kept, no TLS. nodemailer is taken
from POSTHOUSE_NODE_MODULES and left out without it. Prints a record per turn and the medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import benchlib as B

HERE = Path(__file__).parent
WAYS = ("posthouse", "posthouse-sync", "nodemailer", "aiosmtplib", "smtplib")


def command(way, kind, a, key_file):
    tail = ["127.0.0.1", str(a.port), str(a.count), str(a.conns), kind, key_file]
    if way == "nodemailer":
        return ["node", str(HERE / "senders/nodemailer.js"), *tail]
    return [sys.executable, str(HERE / "senders/by_python.py"), way, *tail]


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--count", type=int, default=10_000)
    ap.add_argument("--conns", type=int, default=5)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--kinds", default="text,html,dkim")
    ap.add_argument("--ways", default=",".join(WAYS))
    ap.add_argument("--port", type=int, default=12925)
    ap.add_argument("--out")
    a = ap.parse_args()
    ways = [w for w in a.ways.split(",") if w != "nodemailer" or "POSTHOUSE_NODE_MODULES" in os.environ]
    seen = {}
    with tempfile.TemporaryDirectory() as folder:
        key_file = str(Path(folder, "rsa.pem"))
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", key_file, "2048"], check=True, capture_output=True)
        sink = subprocess.Popen(
            [sys.executable, str(HERE / "sink.py"), "--port", str(a.port), "--hosts", "0"],
            stdout=subprocess.PIPE,
        )
        try:
            sink.stdout.readline()
            for run in range(a.runs):
                for kind in a.kinds.split(","):
                    for way in ways:
                        done = subprocess.run(
                            command(way, kind, a, key_file), capture_output=True, text=True, check=False
                        )
                        if done.returncode:
                            print(f"{way} {kind}: {done.stderr[-2000:]}", file=sys.stderr)
                            continue
                        got = json.loads(done.stdout)
                        rec = {
                            "bench": "send", "way": way, "kind": kind, "run": run, "count": a.count,
                            "conns": a.conns, "rate": got["sent"] / got["seconds"],
                            "cpu_ms": got["cpu_s"] / got["sent"] * 1e3, **got,
                        }
                        B.emit(rec, a.out)
                        seen.setdefault((kind, way), []).append(rec)
        finally:
            sink.terminate()
            sink.wait()
    print("| kind | way | messages/s | CPU ms each | MiB | ours is times faster |")
    print("|---|---|---|---|---|---|")
    for (kind, way), recs in sorted(seen.items()):
        rate = statistics.median(r["rate"] for r in recs)
        ours = statistics.median(r["rate"] for r in seen.get((kind, "posthouse"), recs))
        cpu = statistics.median(r["cpu_ms"] for r in recs)
        rss = statistics.median(r["rss_mib"] for r in recs)
        print(f"| {kind} | {way} | {rate:,.0f} | {cpu:.3f} | {rss:.0f} | {ours / rate:.1f} |")


if __name__ == "__main__":
    main()
