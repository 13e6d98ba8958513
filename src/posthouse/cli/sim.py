"""`posthouse sim`: whole servers in virtual time, broken by a seed, and what must hold after."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec

from posthouse.cli.output import ExitCode, json_option, progress, say, show_json, show_text

HOURS_MAX = 24 * 366
RUNS_MAX = 1_000_000


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The result as `--json` shows it."""

    summary: str
    runs: tuple[object, ...]


@click.command()
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N")
@click.option(
    "--hours",
    type=click.FloatRange(0.1, HOURS_MAX),
    default=24.0,
    show_default=True,
    help="Virtual hours of traffic and faults.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, RUNS_MAX),
    default=1,
    show_default=True,
    help="How many seeds, from --seed on.",
)
@json_option
def sim(seed: int, hours: float, runs: int, as_json: bool) -> int:
    """Run a whole server for each seed: clients send while network, DNS and disk fail, and at the
    end every acknowledged message must be stored, handed over or returned.

    The same seed gives the same run. Exit code 1 when a promise was broken.
    """
    from posthouse.sim.whole import Outcome, run_seed, summary

    outcomes: list[Outcome] = []
    with progress("seeds", runs) as done:
        for number in range(seed, seed + runs):
            with tempfile.TemporaryDirectory(prefix="posthouse-sim-") as folder:
                outcome = run_seed(number, hours=hours, folder=Path(folder))
            outcomes.append(outcome)
            for failure in outcome.failures:
                say(f"seed {number}: {failure}")
            done(1)
    if as_json:
        show_json(Shown(summary=summary(outcomes), runs=tuple(outcomes)))
    else:
        show_text(summary(outcomes))
    return ExitCode.FAILED if any(outcome.failures for outcome in outcomes) else ExitCode.OK
