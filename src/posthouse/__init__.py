"""Posthouse: a whole mail server in one program, and the library applications send mail with."""

from typing import Final

__version__: Final = "0.1.0"
