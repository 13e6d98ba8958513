"""Reads the records of compare.sh and prints a Markdown table: medians, CPU, ratio to the peer."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict

US = "posthouse"


def cell(record):
    """(what is measured, the figure, is more better) of one record."""
    bench = record["bench"]
    if bench == "smtp_accept":
        key = f"accept {record['size']}, {record['conns']} conn., {record['mode']}"
        return [(f"{key}: messages/s", record["msgs_s"], True), (f"{key}: p99 ms", record["p99_ms"], False)]
    if bench.startswith("smtp_deliver"):
        kind = bench.removeprefix("smtp_deliver").replace("_", " ")
        return [(f"wire to inbox{kind}, 4K, 10 conn.: messages/s", record["deliver_msgs_s"], True)]
    if bench == "relay_out":
        return [(f"relay, {record['domains']} domain(s): messages/s", record["relay_msgs_s"], True)]
    if bench == "imap":
        return [(f"IMAP {record['op']}: s", record["wall_s"], False)]
    if bench == "imap_notify":
        return [("IDLE notice: p50 ms", record["p50_ms"], False)]
    if bench == "imap_idle":
        return [("idle connection: KiB (PSS)", record["pss_kb_per_conn"], False)]
    if bench == "tls":
        return [("TLS handshakes/s", record["handshakes_s"], True)]
    return []


def cpu(record):
    return record.get("srv_cpu_ms_per_msg") or record.get("srv_cpu_ms_per_handshake") or record.get("srv_cpu_s")


def main(path):
    figures, costs, better = defaultdict(lambda: defaultdict(list)), defaultdict(lambda: defaultdict(list)), {}
    for line in open(path):
        record = json.loads(line)
        for name, value, more in cell(record):
            if value is not None:
                figures[name][record["label"]].append(value)
                better[name] = more
            if (spent := cpu(record)) is not None:
                costs[name][record["label"]].append(spent)
    print("| what | peer | peer's figure | Posthouse | ratio | CPU peer | CPU Posthouse | runs |")
    print("|---|---|---|---|---|---|---|---|")
    for name, labels in figures.items():
        ours = statistics.median(labels.get(US, [0]))
        for peer, values in labels.items():
            if peer == US:
                continue
            theirs = statistics.median(values)
            pair = (ours, theirs) if better[name] else (theirs, ours)
            ratio = f"{pair[0] / pair[1]:.2f}" if pair[1] else "-"
            spent = [statistics.median(costs[name].get(label) or [0]) for label in (peer, US)]
            print(
                f"| {name} | {peer} | {theirs:g} | {ours:g} | {ratio} | {spent[0]:.3g} |"
                f" {spent[1]:.3g} | {len(values)} |"
            )


if __name__ == "__main__":
    main(sys.argv[1])
