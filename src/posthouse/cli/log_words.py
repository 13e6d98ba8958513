"""What the client library logs while a command runs, in the words of the command line."""

from __future__ import annotations

import logging
from typing import Final

import click

from posthouse.cli.send_words import in_options
from posthouse.sending import SendingError

__all__ = ["log_in_options"]

LOGGER: Final = "posthouse.sending"


def log_in_options() -> None:
    """Until the command ends `verify=False` is --insecure in the log, too, as it is in errors."""
    logger = logging.getLogger(LOGGER)
    logger.addFilter(_in_options)
    click.get_current_context().call_on_close(lambda: logger.removeFilter(_in_options))


def _in_options(record: logging.LogRecord) -> bool:
    record.msg, record.args = in_options(SendingError("", hint=record.getMessage()))[1], ()
    return True
