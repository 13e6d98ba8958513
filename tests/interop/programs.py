"""Programs of other projects that a test talks to: skipped without them, by name.

    pytestmark = needs_program("swaks", package="swaks")

A newcomer who lacks one sees the test skipped with the package to install. With
POSTHOUSE_REQUIRE_INTEROP set, as in CI, a missing program is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

REQUIRE = "POSTHOUSE_REQUIRE_INTEROP"
NODE_MODULES = "POSTHOUSE_NODE_MODULES"
ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Missing(msgspec.Struct, frozen=True):
    """Why a test cannot run here."""

    text: str
    can_be_installed: bool = True


def needs_program(
    program: str, *, package: str, perl: tuple[str, ...] = (), root: bool = False
) -> pytest.MarkDecorator:
    """A mark for a test that runs `program` of the Debian `package`.

    Args:
        perl: Perl modules the program needs for what the test asks of it, as "IO::Socket::SSL".
        root: the program starts only as root; others skip the test, also in CI.
    """
    return pytest.mark.interop(program, package=package, perl=perl, root=root)


def needs_node_module(name: str) -> pytest.MarkDecorator:
    """A mark for a test that runs node with an npm package of POSTHOUSE_NODE_MODULES."""
    return pytest.mark.interop("node", package="nodejs", module=name)


def find_program(name: str) -> str | None:
    """The path of a program, also of those only administrators have on their PATH."""
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), *ADMIN_FOLDERS))
    return shutil.which(name, path=folders)


def node_modules() -> Path | None:
    """The folder with npm packages: the one that is named, or where `.ci/run` puts them."""
    if named := os.environ.get(NODE_MODULES):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "posthouse-ci" / "node_modules"
    return folder if folder.is_dir() else None


def is_required() -> bool:
    return bool(os.environ.get(REQUIRE))


def missing_program(
    program: str,
    *,
    package: str,
    perl: tuple[str, ...] = (),
    root: bool = False,
    module: str | None = None,
) -> Missing | None:
    """What a test with this mark lacks, or None."""
    if find_program(program) is None:
        return Missing(f"{program} is not installed (Debian package {package})")
    for name in perl:
        if not _has_perl(name):
            return Missing(f"{program} lacks the Perl module {name} ({_perl_package(name)})")
    if module is not None:
        folder = node_modules()
        if folder is None or not (folder / module / "package.json").is_file():
            return Missing(f"the npm package {module} is not in the folder {NODE_MODULES} names")
    if root and os.geteuid() != 0:
        return Missing(f"{program} starts only as root", can_be_installed=False)
    return None


def _has_perl(name: str) -> bool:
    command = ["perl", f"-M{name}", "-e", "1"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _perl_package(name: str) -> str:
    """Debian's name for a module: IO::Socket::SSL is libio-socket-ssl-perl."""
    return f"lib{name.lower().replace('::', '-')}-perl"
