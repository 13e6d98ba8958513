"""The command line: `posthouse NOUN VERB`, one file per noun, imported only when it is used.

Data goes to stdout, words to stderr as `error:` and `hint:`. Whatever a person did wrong is told in
words with an exit code of `output.ExitCode`; a traceback is shown for bugs only.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from posthouse import __version__
from posthouse.cli.output import ExitCode, exit_code_of, say_error, say_hint
from posthouse.kernel.errors import Fault, UserError

COMMANDS: Final = {
    "serve": "Run the server in the foreground.",
    "quickstart": "Write a config, make a domain and an account, print what to publish.",
    "demo": "Run two servers with their own DNS on loopback, with mail between them.",
    "sim": "Run whole servers in virtual time under seeded faults, and check the promises.",
    "domain": "Domains that mail is taken for, and their DKIM keys.",
    "dns": "What a domain should publish, and whether the world sees it.",
    "account": "People and programs that own mailboxes: passwords, quotas.",
    "key": "S/MIME and OpenPGP keys, and what is signed and encrypted with them.",
    "alias": "Addresses that stand for others.",
    "certificate": "Certificates of this server: list, obtain, renew.",
    "queue": "Mail that is not settled yet: list, show, retry, hold, release, drop, reroute.",
    "ledger": "Prove that every accepted recipient has one end or is still owned.",
    "explain": "What became of a message, and why.",
    "report": "DMARC and TLS reports: what others say about your domains, and those you send.",
    "send": "Submit a message to any server and show the dialogue.",
    "check": "Try SPF, DKIM, ARC and DMARC by hand, and be told what they find.",
    "resolve": "What routing and DNS say about a domain.",
    "config": "Check and show the configuration.",
}
"""Each is an object of its own name in `posthouse.cli.<name>`. The text is here too, so that
`posthouse --help` imports none of them."""

DEBUG_VARIABLE: Final = "POSTHOUSE_DEBUG"


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and lists those that are there."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if _is_there(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS or not _is_there(cmd_name):
            return None
        module = importlib.import_module(f"posthouse.cli.{cmd_name}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command), cmd_name
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would make it exit code 1
            raise ReaderLeft from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0][:60], COMMANDS, n=1)
            hint = f"did you mean `posthouse {near[0]}`?" if near else "see `posthouse --help`"
            raise UnknownCommand(f"there is no command {args[0]!r}", ctx=ctx, hint=hint)
        return super().resolve_command(ctx, args)


class ReaderLeft(Exception):
    """Whoever read our output has seen enough, as in `posthouse queue list | head`."""


class UnknownCommand(click.UsageError):
    """A command that does not exist, with the nearest that does."""

    def __init__(self, message: str, *, ctx: click.Context, hint: str) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(f"posthouse.cli.{name}") is not None


@click.group(
    name="posthouse",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 wrong config, 4 not found, "
    "5 the data cannot be opened, 75 try again later.",
)
@click.version_option(__version__, prog_name="posthouse", message="%(prog)s %(version)s")
def root() -> None:
    """A whole mail server in one program.

    Start with `posthouse quickstart you@example.org`, or look around with `posthouse demo`.
    """


def main() -> NoReturn:
    """The console command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code."""
    try:
        result = root.main(list(arguments), prog_name="posthouse", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return ExitCode.OK
    except click.UsageError as error:
        return _told_usage(error)
    except click.ClickException as error:
        say_error(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say_error("interrupted")
        return ExitCode.INTERRUPTED
    except (ReaderLeft, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at exit
        return ExitCode.OK
    except (UserError, Fault, OSError) as error:
        return _told(error)
    except Exception as error:
        return _told_bug(error)
    return result if isinstance(result, int) else ExitCode.OK


def _told_usage(error: click.UsageError) -> int:
    say_error(error.format_message())
    path = error.ctx.command_path if error.ctx else "posthouse"
    say_hint(getattr(error, "hint", "") or f"see `{path} --help`")
    return ExitCode.USAGE


def _told(error: UserError | Fault | OSError) -> int:
    text: Any = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    say_error(text or type(error).__name__)
    if isinstance(error, UserError) and error.hint:
        say_hint(error.hint)
    return exit_code_of(error)


def _told_bug(error: Exception) -> int:
    say_error(f"this is a bug in Posthouse: {type(error).__name__}: {error}")
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    else:
        say_hint(f"run it again with {DEBUG_VARIABLE}=1 to see where, and report that")
    return ExitCode.FAILED
