"""Messages from Jinja2 templates, subject, text and HTML together; needs `posthouse[templates]`.

    templates = Templates("mail")
    made = templates.render("welcome", name="Ada")     # mail/welcome.subject.txt, .txt, .html
    transport.send(made.into(Message(sender="shop@example.org", to="ada@example.org")))

HTML is escaped automatically, text is not. A variable that is missing is an error, never an empty
place in somebody's mail; templates run in Jinja2's sandbox.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.sending.errors import MessageError
from posthouse.sending.message import Message

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

__all__ = ["Rendered", "Templates"]

SUBJECT: Final = ".subject.txt"
TEXT: Final = ".txt"
HTML: Final = ".html"


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
        self._environment = _environment(source)
        self._place = str(source) if isinstance(source, (str, Path)) else "the loader"

    def render(self, name: str, /, **values: object) -> Rendered:
        """All templates of that name with these values.

        Raises:
            MessageError: there are none, one is malformed, or a variable is missing; `field` is
                the template's file name.
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

    def _render(self, file: str, values: dict[str, object]) -> str | None:
        import jinja2

        try:
            return self._environment.get_template(file).render(values)
        except jinja2.TemplateNotFound as error:
            if error.name == file:
                return None
            raise _fault(file, f"it asks for {error.name!r}, which is not there") from None
        except jinja2.TemplateSyntaxError as error:
            where = error.name or file
            raise _fault(where, f"line {error.lineno}: {error.message}") from None
        except jinja2.UndefinedError as error:
            said = error.message or "a variable is missing"
            raise _fault(file, said, hint="give it to `render`") from None
        except jinja2.TemplateError as error:  # what the sandbox forbids, among others
            raise _fault(file, str(error)) from None


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
        source = jinja2.FileSystemLoader(source)
    return ImmutableSandboxedEnvironment(
        loader=source,
        autoescape=_is_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _is_html(name: str | None) -> bool:
    """Templates made of a string have no name and may be HTML."""
    return name is None or name.endswith((HTML, ".htm", ".xhtml", ".xml"))


def _fault(file: str, words: str, *, hint: str = "") -> MessageError:
    return MessageError(f"template {file}: {words}", field=file, hint=hint)
