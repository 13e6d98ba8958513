"""Messages from Jinja2 templates, subject, text and HTML together; needs `posthouse[templates]`.

    templates = Templates("mail")
    made = templates.render("welcome", name="Ada")     # mail/welcome.subject.txt, .txt, .html
    transport.send(made.into(Message(sender="shop@example.org", to="ada@example.org")))

HTML is escaped automatically, text is not. A variable that is missing is an error, never an empty
place in somebody's mail; templates run in Jinja2's sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn, cast

import msgspec

from posthouse.sending.errors import MessageError
from posthouse.sending.message import Message

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment, Template

__all__ = ["Rendered", "Templates"]

SUBJECT: Final = ".subject.txt"
TEXT: Final = ".txt"
HTML: Final = ".html"
WORDS_MAX: Final = 200
"""Characters of what an expression raised that an error repeats."""
_OF_A_TEMPLATE: Final = "__jinja_exception__"
"""Among the globals of a frame that Jinja2 puts in the place of a template's."""


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of templates became; None for those that are not there."""

    subject: str | None = None
    text: str | None = None
    html: str | None = None

    def into(self, message: Message) -> Message:
        """The message with these parts instead of its own."""
        changes = {name: value for name, value in self._parts() if value is not None}
        return msgspec.structs.replace(message, **changes)

    def _parts(self) -> tuple[tuple[str, str | None], ...]:
        return (("subject", self.subject), ("text", self.text), ("html", self.html))


class Templates:
    """A folder of templates, or a loader of Jinja2's: `NAME.subject.txt`, `NAME.txt` and
    `NAME.html`, at least one of the last two. They may extend and include others."""

    def __init__(self, source: str | Path | BaseLoader) -> None:
        """
        Raises:
            MessageError: Jinja2 is not installed, or there is no such folder.
        """
        self._folder = source if isinstance(source, (str, Path)) else None
        self._place = str(source) if self._folder is not None else "the loader"
        self._environment = _environment(source)

    def render(self, name: str, /, **values: object) -> Rendered:
        """All templates of that name with these values.

        Raises:
            MessageError: there are none, one is malformed or is no UTF-8 text, a variable is
                missing, or an expression cannot be worked out; `field` is the template's file name.
        """
        subject = self._render(f"{name}{SUBJECT}", values)
        text = self._render(f"{name}{TEXT}", values)
        html = self._render(f"{name}{HTML}", values)
        if text is None and html is None:
            raise MessageError(
                f"there is no template {name}{TEXT} or {name}{HTML} in {self._place}",
                field=name,
                hint="put one of them there, or give `Templates` another folder",
            )
        if subject is not None:
            subject = subject.strip("\r\n ")  # of the file; others are refused by `compose`
        return Rendered(subject=subject, text=text, html=html)

    def files(self, name: str, /) -> dict[str, str]:
        """What `render` makes its text from: the templates of that name, and those they extend,
        include or import by a name that stands in them, by their file names.

        Raises:
            MessageError: one is malformed, or is no UTF-8 text.
        """
        found: dict[str, str] = {}
        waiting = [f"{name}{SUBJECT}", f"{name}{TEXT}", f"{name}{HTML}"]
        while waiting:
            file = waiting.pop()
            if file not in found and (read := self._read(file)) is not None:
                found[file], asked = read
                waiting += asked
        return found

    def _read(self, file: str) -> tuple[str, list[str]] | None:
        """The source, and which others it asks for; None where there is no such file."""
        import jinja2
        from jinja2.meta import find_referenced_templates

        assert self._environment.loader is not None
        try:
            source, _, _ = self._environment.loader.get_source(self._environment, file)
            parsed = self._environment.parse(source, name=file)
        except jinja2.TemplateNotFound:
            return None
        except (jinja2.TemplateError, _Unreadable) as error:
            self._fail(error, file, None)
        return source, [one for one in find_referenced_templates(parsed) if one is not None]

    def _render(self, file: str, values: dict[str, object]) -> str | None:
        import jinja2

        template = None
        try:
            template = self._environment.get_template(file)
            return template.render(values)
        except jinja2.TemplateNotFound as error:
            if error.name == file and template is None:
                return None
            self._fail(error, file, template)
        except Exception as error:  # whatever the values do in the template's expressions
            self._fail(error, file, template)

    def _fail(self, error: Exception, file: str, template: Template | None) -> NoReturn:
        """Raises MessageError that says where in which template it is, and what to do."""
        import jinja2

        hint = ""
        if isinstance(error, _Unreadable):
            raise _fault(error.file, error.line, error.words, hint=error.hint) from None
        if isinstance(error, jinja2.TemplateSyntaxError):
            raise _fault(error.name or file, error.lineno, error.message or "") from None
        where, line = self._where(error, file, template)
        if isinstance(error, jinja2.TemplateNotFound):
            words = f"it asks for {error.name!r}, which is not there"
        elif isinstance(error, jinja2.UndefinedError):
            words = error.message or "a variable is missing"
            hint = "give it to `render`"
        elif isinstance(error, jinja2.TemplateError):  # what the sandbox forbids, among others
            words = str(error)
        else:
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"[:WORDS_MAX]
            hint = "mend this expression, or the values it gets; text becomes a number by |int"
            raise _fault(where, line, words, hint=hint) from error
        raise _fault(where, line, words, hint=hint) from None

    def _where(
        self, error: Exception, file: str, template: Template | None
    ) -> tuple[str, int | None]:
        """The innermost template in the traceback, which is another file's where one includes or
        extends it, and the line in it."""
        frames: list[tuple[FrameType, int]] = []
        trace = error.__traceback__
        while trace is not None:
            if _OF_A_TEMPLATE in trace.tb_frame.f_globals:
                frames.append((trace.tb_frame, trace.tb_lineno))
            trace = trace.tb_next
        if template is None or not frames:
            return file, None
        frame, line = frames[-1]
        path = Path(frame.f_code.co_filename)
        if not path.exists():  # of a loader without files, whose templates cannot be told apart
            return file, line if len(frames) == 1 else None
        if str(path) == template.filename:
            return file, line
        folder = self._folder if self._folder is not None else path.parent
        return os.path.relpath(path, folder), line


class _Unreadable(Exception):
    """A template is there and cannot be read."""

    def __init__(self, file: str, line: int | None, words: str, hint: str) -> None:
        super().__init__(words)
        self.file = file
        self.line = line
        self.words = words
        self.hint = hint


class _Reader:
    """A loader that says which template it could not read, as one may ask for others."""

    def __init__(self, loader: BaseLoader) -> None:
        self._loader = loader

    def load(
        self, environment: Environment, name: str, globals: Mapping[str, object] | None = None
    ) -> Template:
        with _reading(name):
            return self._loader.load(environment, name, cast("dict[str, object]", globals))

    def get_source(
        self, environment: Environment, name: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        with _reading(name):
            return self._loader.get_source(environment, name)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    import jinja2

    try:
        yield
    except jinja2.TemplateNotFound:  # an OSError, too
        raise
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        kind = error.encoding.upper()
        words = f"this is not {kind} text"
        raise _Unreadable(name, line, words, f"save it as {kind}") from None
    except OSError as error:
        words = f"it cannot be read: {error.strerror or error}"
        raise _Unreadable(name, None, words, "") from None


def _environment(source: str | Path | BaseLoader) -> Environment:
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise MessageError(
            "templates need Jinja2, which is not installed",
            field="templates",
            hint="pip install posthouse[templates]",
        ) from None
    if isinstance(source, (str, Path)):
        if not Path(source).is_dir():
            raise MessageError(f"there is no folder {str(source)!r}", field="templates")
        # Some editors put a mark in front, which is no letter of the subject.
        source = jinja2.FileSystemLoader(source, encoding="utf-8-sig")
    return ImmutableSandboxedEnvironment(
        loader=cast("BaseLoader", _Reader(source)),
        autoescape=_is_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _is_html(name: str | None) -> bool:
    """Templates made of a string have no name and may be HTML."""
    return name is None or name.endswith((HTML, ".htm", ".xhtml", ".xml"))


def _fault(file: str, line: int | None, words: str, *, hint: str = "") -> MessageError:
    place = f"line {line}: " if line is not None else ""
    return MessageError(f"template {file}: {place}{words}", field=file, hint=hint)
