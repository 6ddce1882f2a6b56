"""Templates in the language of Jinja, rendered by the native module; Jinja2 itself where it is asked for.

::

    templates = Templates("templates")
    templates.render("page.html", title="Guests", guests=guests)

The output of ``.html``, ``.htm``, ``.xhtml``, ``.xml`` and ``.svg`` is escaped (a further ``.j2``,
``.jinja`` or ``.jinja2`` makes no difference). Values are Python's own: attributes, items and methods are
looked up when the template asks.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import html
import json
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Protocol, SupportsIndex, TypeVar, cast

__all__ = ["Markup", "TemplateError", "TemplateMissing", "Templates", "escape", "render", "tojson"]

ESCAPED = ("html", "htm", "xhtml", "xml", "svg")
IGNORED = (".j2", ".jinja", ".jinja2")

F = TypeVar("F", bound=Callable[..., Any])


class TemplateError(Exception):
    """A template that cannot be read or rendered. ``name`` and ``line`` (from 1) say where, if that is
    known.
    """

    def __init__(self, message: str, name: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.name = name
        self.line = line

    def __str__(self) -> str:
        if self.name is None:
            return self.message
        line = f", line {self.line}" if self.line else ""
        return f"{self.message} (`{self.name}`{line})"


class TemplateMissing(TemplateError, LookupError):
    """No folder has this template."""


class Markup(str):
    """Text that is HTML already. What is joined with it is escaped first."""

    __slots__ = ()

    def __html__(self) -> Markup:
        return self

    def __add__(self, other: str) -> Markup:
        return Markup(str.__add__(self, escape(other)))

    def __radd__(self, other: str) -> Markup:
        return Markup(str.__add__(escape(other), self))

    def __mul__(self, times: SupportsIndex) -> Markup:
        return Markup(str.__mul__(self, times))

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> Markup:
        if isinstance(values, tuple):
            return Markup(str.__mod__(self, tuple(_escaped_argument(value) for value in values)))
        if isinstance(values, Mapping):
            return Markup(str.__mod__(self, {name: _escaped_argument(v) for name, v in values.items()}))
        return Markup(str.__mod__(self, _escaped_argument(values)))

    def format(self, *args: Any, **kwargs: Any) -> Markup:
        """As `str.format`; what is filled in is escaped."""
        named = {name: _escaped_argument(value) for name, value in kwargs.items()}
        return Markup(str.format(self, *map(_escaped_argument, args), **named))

    def join(self, parts: Iterable[Any]) -> Markup:
        """As `str.join`; the parts are escaped."""
        return Markup(str.join(self, map(escape, parts)))

    def __repr__(self) -> str:
        return f"Markup({str.__repr__(self)})"


def _escaped_argument(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else escape(value)


def escape(value: Any) -> Markup:
    """``value`` as HTML: by its own ``__html__``, else its text with ``& < > " '`` escaped."""
    own = getattr(type(value), "__html__", None)
    if own is not None:
        return Markup(own(value))
    return Markup(html.escape(str(value)))


def tojson(value: Any, indent: int | None = None) -> Markup:
    """JSON that may stand in HTML: in a script, and in an attribute between quotes of either kind that are
    escaped.

    Dataclasses are objects; dates and times ISO 8601; UUIDs, decimals and paths text.
    """
    text = json.dumps(value, default=_jsonable, indent=indent, ensure_ascii=False)
    for character in "<>&'\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID, os.PathLike)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):  # mappings, and rows of a database
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - rows give values
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"`{type(value).__name__}` has no form in JSON")


def is_escaped(name: str) -> bool:
    """Whether what this template writes is HTML or XML."""
    for extension in IGNORED:
        name = name.removesuffix(extension)
    return name.rpartition(".")[2].lower() in ESCAPED


class Engine(Protocol):
    """What renders: one by the native module, one by Jinja2."""

    def render(self, name: str, context: dict[str, Any]) -> str: ...

    def render_string(self, name: str, source: str, context: dict[str, Any]) -> str: ...

    def render_block(self, name: str, block: str, context: dict[str, Any]) -> str: ...


class Templates:
    """The templates of some folders, with filters, tests and global names.

    ``folders``: one or several, where the first that has a template wins; a relative one is below ``root``
    (by default the working directory at this moment). ``engine``: ``"minijinja"`` or ``"jinja2"``, which
    must be installed. ``reload``: a changed file is read again; by default where ``TRIVET_DEV`` is set.
    ``strict``: an undefined name that is printed is an error instead of nothing.
    """

    def __init__(
        self,
        folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        root: str | os.PathLike[str] | None = None,
        engine: str = "minijinja",
        reload: bool | None = None,
        strict: bool = False,
    ) -> None:
        if engine not in ("minijinja", "jinja2"):
            raise ValueError(f"`{engine}` is no engine for templates\nhint: `minijinja` or `jinja2`")
        given = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
        base = Path(root) if root is not None else Path.cwd()
        self.folders = [(base / folder).absolute() for folder in given]
        self.engine = engine
        self.reload = bool(os.environ.get("TRIVET_DEV")) if reload is None else reload
        self.strict = strict
        self.filters: dict[str, Callable[..., Any]] = {"tojson": tojson}
        self.tests: dict[str, Callable[..., Any]] = {}
        self.globals: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._compiled: Engine | None = None
        self._seen: dict[str, tuple[str, int, int]] = {}
        _all.add(self)

    def render(self, name: str, /, **context: Any) -> str:
        """The text of the template with these variables.

        Raises TemplateMissing, TemplateError, or whatever the template's calls into Python raise; tracebacks
        have the template's lines.
        """
        with _Given(context):
            return self._current().render(name, context)

    def render_string(self, source: str, /, **context: Any) -> str:
        """The same for a template that is a text; its output is HTML."""
        with _Given(context):
            return self._current().render_string("<string>.html", source, context)

    def render_block(self, name: str, block: str, /, **context: Any) -> str:
        """One block of a template: the part of a page that changes."""
        with _Given(context):
            return self._current().render_block(name, block, context)

    def filter(self, function: F, name: str | None = None) -> F:
        """Registers a filter under its own name, or another: ``@templates.filter``."""
        return self._register(self.filters, function, name)

    def test(self, function: F, name: str | None = None) -> F:
        """Registers a test: ``{% if x is odd %}``."""
        return self._register(self.tests, function, name)

    def add_global(self, name: str, value: Any) -> None:
        """A name that every template has; a function can be called there."""
        with self._lock:
            self.globals[name] = value
            self._compiled = None

    def function(self, function: F, name: str | None = None) -> F:
        """Registers a function for all templates: ``@templates.function``."""
        return self._register(self.globals, function, name)

    def _register(self, table: dict[str, Any], function: F, name: str | None) -> F:
        with self._lock:
            table[name or function.__name__] = function
            self._compiled = None
        return function

    def path(self, name: str) -> str | None:
        """The file of a template. None: there is none, or the name leads out of the folders."""
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            return None
        for folder in self.folders:
            found = os.path.join(folder, *parts)
            if os.path.isfile(found):
                return found
        return None

    def _current(self) -> Engine:
        compiled = self._compiled
        if compiled is not None and not (self.reload and self._changed()):
            return compiled
        with self._lock:
            self._seen = {}
            made: Engine = _Jinja2(self) if self.engine == "jinja2" else _native(self)
            self._compiled = made
            return made

    def _changed(self) -> bool:
        return any(self._look(name)[1] != seen for name, seen in list(self._seen.items()))

    def _look(self, name: str) -> tuple[str | None, tuple[str, int, int]]:
        path = self.path(name)
        if path is None:
            return None, ("", 0, 0)
        try:
            stat = os.stat(path)
        except OSError:
            return None, ("", 0, 0)
        return path, (path, stat.st_mtime_ns, stat.st_size)

    def _load(self, name: str) -> str | None:
        # The first look comes before the text, so that no change falls between the two.
        path, seen = self._look(name)
        if path is None:
            return None
        self._seen[name] = seen
        return Path(path).read_text("utf-8")

    def _failed(
        self, message: str, kind: str, places: list[tuple[str, int]], cause: BaseException | None
    ) -> BaseException:
        name, line = places[-1] if places else (None, None)
        if cause is not None:
            error = cause
        elif kind == "missing":
            where = ", ".join(f"`{folder}`" for folder in self.folders)
            error = TemplateMissing(f"{message.partition(': ')[2] or message}; looked in {where}", name, line)
        else:
            error = TemplateError(message, name, line)
        return error.with_traceback(self._trace(places, error.__traceback__))

    def _trace(self, places: list[tuple[str, int]], trace: TracebackType | None) -> TracebackType | None:
        """The templates' lines as frames around those of what was called."""
        for name, line in reversed(places):
            frame = _frame(self.path(name) or f"<template {name}>", line)
            if frame is not None:
                trace = TracebackType(trace, frame, frame.f_lasti, line)
        return trace


class _Mark(Exception):
    pass


def _frame(path: str, line: int) -> FrameType | None:
    code: CodeType = compile("\n" * (line - 1) + "raise mark", path, "exec")
    try:
        exec(code.replace(co_name="template"), {"__name__": "template", "mark": _Mark})
    except _Mark as error:
        trace = error.__traceback__
        return trace.tb_next.tb_frame if trace is not None and trace.tb_next is not None else None
    return None


def _native(templates: Templates) -> Engine:
    from trivet._load import native

    # Nothing in the extension is seen by the collector of cycles: what it has must not keep us.
    owner = weakref.ref(templates)

    def load(name: str) -> str | None:
        alive = owner()
        return None if alive is None else alive._load(name)

    def failed(
        message: str, kind: str, places: list[tuple[str, int]], cause: BaseException | None
    ) -> BaseException:
        alive = owner()
        return TemplateError(message) if alive is None else alive._failed(message, kind, places, cause)

    made = native("_templates").Environment(
        load,
        failed,
        is_escaped,
        filters=templates.filters,
        tests=templates.tests,
        globals=templates.globals,
        strict=templates.strict,
        debug=templates.reload,
    )
    return cast(Engine, made)


class _Jinja2:
    def __init__(self, templates: Templates) -> None:
        try:
            import jinja2
        except ImportError:
            raise ModuleNotFoundError(
                "`jinja2` is not installed in this Python\n"
                'hint: install it, or leave `engine="jinja2"` out: most templates need no change'
            ) from None
        self.missing = jinja2.TemplateNotFound
        self.environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(self._load),
            autoescape=lambda name: name is None or is_escaped(name),
            undefined=jinja2.StrictUndefined if templates.strict else jinja2.Undefined,
            auto_reload=False,
        )
        self.templates = templates
        self.environment.filters.update(templates.filters)
        self.environment.tests.update(templates.tests)
        self.environment.globals.update(templates.globals)

    def _load(self, name: str) -> tuple[str, str | None, Callable[[], bool]] | None:
        text = self.templates._load(name)
        return None if text is None else (text, self.templates.path(name), lambda: True)

    def render(self, name: str, context: dict[str, Any]) -> str:
        return self._template(name).render(context)  # type: ignore[no-any-return]

    def render_string(self, name: str, source: str, context: dict[str, Any]) -> str:
        return self.environment.from_string(source).render(context)

    def render_block(self, name: str, block: str, context: dict[str, Any]) -> str:
        template = self._template(name)
        if block not in template.blocks:
            raise TemplateError(f"no block `{block}`", name)
        return self.environment.concat(template.blocks[block](template.new_context(context)))

    def _template(self, name: str) -> Any:
        try:
            return self.environment.get_template(name)
        except self.missing as error:
            where = ", ".join(f"`{folder}`" for folder in self.templates.folders)
            raise TemplateMissing(f'template "{error.name}" does not exist; looked in {where}') from None


class _Rendering(threading.local):
    request: Any = None


_rendering = _Rendering()


def rendered_for() -> Any:
    """The request that the template being rendered in this thread was given as `req` or `request`, or None.

    It holds in what that template includes and calls too, macros of others among it.
    """
    return _rendering.request


class _Given:
    """While a template is rendered with these variables."""

    def __init__(self, context: dict[str, Any]) -> None:
        request = context.get("req")
        self._request = context.get("request") if request is None else request
        self._before: Any = None

    def __enter__(self) -> None:
        if self._request is not None:
            self._before, _rendering.request = _rendering.request, self._request

    def __exit__(self, *_: object) -> None:
        if self._request is not None:
            _rendering.request = self._before


_all: weakref.WeakSet[Templates] = weakref.WeakSet()


def render(name: str, /, **context: Any) -> str:
    """Renders with the templates of the one application that has some; see :meth:`Templates.render`."""
    known = list(_all)
    if len(known) != 1:
        if not known:
            raise RuntimeError('no folder of templates is known\nhint: `App(templates="templates")`')
        raise RuntimeError("several applications have templates\nhint: use `app.render`")
    return known[0].render(name, **context)
