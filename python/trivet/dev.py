"""What helps while an application is written: the error page and the coloured line of a request.

Both are for the person at this machine. :func:`error_page` gives a page only where ``TRIVET_DEV`` is set,
the peer is this machine, and the request names this machine: a page of another site that leads a browser
here under its own name (DNS rebinding) sees none. What looks like a secret is masked, by its name and
wherever its value turns up again.
"""

from __future__ import annotations

import dataclasses
import html
import io
import keyword
import linecache
import os
import platform
import re
import sys
import sysconfig
import tokenize
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from types import CodeType, FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

__all__ = ["error_page", "is_local", "log_line", "mask", "pages"]

CONTEXT_LINES = 6
FRAMES_MAX = 80
LOCALS_MAX = 60
VALUE_CHARACTERS_MAX = 400
ITEMS_MAX = 20
DEPTH_MAX = 3
CHAIN_MAX = 8
SECRET_CHARACTERS_MIN = 6
MASKED = "••••••"

SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|passcode|(^|_)pass($|_)|secret|token|api_?key|auth|cookie|session|csrf|xsrf|credential|private_?key"
    r"|signature|signing|(^|_)(key|pin|otp|salt|dsn|jwt)s?($|_)|database_url|trivet_db",
    re.IGNORECASE,
)
# Names whose values say nothing about anybody.
HARMLESS = {"key", "keys", "auth_type", "http_authority", "csrf_exempt"}
IN_TEXT = re.compile(
    r"""(?ix) (['"]? [\w-]* (?:password|passwd|secret|token|api_?key|authorization|cookie) [\w-]* ['"]? \s*
    [=:] \s*) ( '[^']*' | "[^"]*" | (?:(?:Bearer|Basic|Digest)\s+)? [^\s,;)}\]'"]+ )"""
)
IN_URL = re.compile(r"(?<=://)([^\s:/@'\"]*):([^\s/@'\"]+)@")

PACKAGE = os.path.dirname(os.path.abspath(__file__))
LIBRARIES = tuple(
    path + os.sep
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)


# Who may see it.

PROXY_KEYS = frozenset(("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP", "HTTP_CF_CONNECTING_IP"))


def is_local(environ: Mapping[str, Any]) -> bool:
    """Whether a request comes from this machine, and asks for it by one of its own names.

    What a proxy has passed on does not count: it comes from here, but for somebody else.
    """
    if any(key in PROXY_KEYS or key.startswith("HTTP_X_FORWARDED_") for key in environ):
        return False
    return _is_loopback(str(environ.get("REMOTE_ADDR") or "")) and _names_loopback(
        str(environ.get("HTTP_HOST") or "")
    )


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _names_loopback(host: str) -> bool:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host)
    if match is None:
        return False
    name = match[1].strip("[]").lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def error_page(error: BaseException, environ: Mapping[str, Any]) -> bytes | None:
    """A page of HTML, in UTF-8, that shows ``error`` and the request; None where nobody may see it.

    ``environ``: the request's, of WSGI (or a dict with its keys). Never raises.
    """
    if not os.environ.get("TRIVET_DEV") or not is_local(environ):
        return None
    try:
        return _Page(error, environ).text().encode("utf-8", "backslashreplace")
    except Exception:  # noqa: BLE001 - the error itself is more important than its page
        text = html.escape("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        return f"<!doctype html><meta charset=utf-8><title>Error</title><pre>{text}</pre>".encode(
            "utf-8", "backslashreplace"
        )


def pages(app: Callable[..., Any]) -> Callable[..., Any]:
    """``app``, a WSGI application, with a page for what it raises before its answer has begun.

    An application that turns its own exceptions into answers is asked to raise them: a :class:`trivet.App`
    and Flask know ``propagate_errors`` and ``PROPAGATE_EXCEPTIONS``. What nobody may see is raised again,
    for the server.
    """
    if hasattr(app, "propagate_errors"):
        app.propagate_errors = True
    config = getattr(app, "config", None)
    if isinstance(config, dict) and config.get("PROPAGATE_EXCEPTIONS", 0) is None:
        config["PROPAGATE_EXCEPTIONS"] = True

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        try:
            return app(environ, start_response)
        except Exception as error:
            page = error_page(error, environ)
            if page is None:
                raise
            trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
            lines = traceback.format_exception(type(error), error, trace)
            errors = environ.get("wsgi.errors") or sys.stderr
            errors.write("".join(lines))
            errors.flush()
            fields = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))]
            fields.append(("Cache-Control", "no-store"))
            start_response("500 Internal Server Error", fields, sys.exc_info())
            return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else page]

    return call


# Secrets.


def is_secret(name: str) -> bool:
    """Whether a thing of this name is for nobody's eyes."""
    return name.lower() not in HARMLESS and SECRET_NAME.search(name) is not None


def mask(text: str) -> str:
    """``text`` without what follows ``password=`` and the like, and without passwords of URLs."""
    text = IN_URL.sub(rf"\1:{MASKED}@", text)
    return IN_TEXT.sub(lambda match: match[1] + MASKED, text)


class _Values:
    """Python's values as text, without secrets."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()

    def learn(self, items: Iterable[tuple[str, Any]]) -> None:
        """Remembers the values of what has a secret's name."""
        for name, value in items:
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if isinstance(value, str) and len(value) >= SECRET_CHARACTERS_MIN and is_secret(str(name)):
                self.secrets.add(value)
                # A cookie's field is made of cookies, an authorization of a scheme and a secret.
                parts = re.split(r"[;,\s]+", value)
                parts += [part.partition("=")[2] for part in parts]
                self.secrets.update(part for part in parts if len(part) >= 2 * SECRET_CHARACTERS_MIN)

    def clean(self, text: str) -> str:
        text = mask(text)
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, MASKED)
        return text

    def shown(self, name: str, value: Any) -> str:
        if is_secret(name) and not isinstance(value, (bool, int, float, type(None))):
            return MASKED
        return self.clean(_cut(self._repr(value, DEPTH_MAX)))

    def _repr(self, value: Any, depth: int) -> str:
        try:
            return self._container(value, depth) or repr(value)
        except Exception as error:  # noqa: BLE001 - anybody's `__repr__`
            return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"

    def _container(self, value: Any, depth: int) -> str | None:
        """Containers by their items, so that names within them count; long texts by their beginning."""
        kind = type(value)
        if kind in (str, bytes, bytearray) and len(value) > VALUE_CHARACTERS_MAX:
            return repr(value[:VALUE_CHARACTERS_MAX])[:-1] + "…"
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and depth:
            fields = ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value) if f.repr)
            return f"{kind.__name__}({self._joined(self._named(fields, depth, '='))})"
        if kind not in (dict, list, tuple, set, frozenset):
            return None
        if not depth:
            return "{…}" if kind in (dict, set, frozenset) else "[…]"
        if kind is dict:
            return "{" + self._joined(self._named(value.items(), depth, ": ", repr)) + "}"
        items = self._joined(self._repr(item, depth - 1) for item in value)
        return f"[{items}]" if kind is list else f"({items})" if kind is tuple else f"{{{items}}}"

    def _named(
        self, items: Iterable[tuple[Any, Any]], depth: int, sign: str, name_of: Any = str
    ) -> Iterator[str]:
        for name, value in items:
            secret = isinstance(name, str) and is_secret(name)
            yield f"{name_of(name)}{sign}{MASKED if secret else self._repr(value, depth - 1)}"

    @staticmethod
    def _joined(parts: Iterable[str]) -> str:
        shown = []
        for number, part in enumerate(parts):
            if number == ITEMS_MAX:
                shown.append("…")
                break
            shown.append(part)
        return ", ".join(shown)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"


# Source.


def _highlighted(path: str, lines: list[str]) -> list[str]:
    """The lines as HTML; Python in colours."""
    plain = [html.escape(line.rstrip("\n")) for line in lines]
    if not path.endswith(".py"):
        return plain
    spans: dict[int, list[tuple[int, int, str]]] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
            kind = _kind(token)
            if kind is None:
                continue
            for row in range(token.start[0], token.end[0] + 1):
                begin = token.start[1] if row == token.start[0] else 0
                end = token.end[1] if row == token.end[0] else len(lines[row - 1].rstrip("\n"))
                spans.setdefault(row, []).append((begin, end, kind))
    except (tokenize.TokenError, SyntaxError, IndexError):
        pass
    for row, found in spans.items():
        text, at, out = lines[row - 1].rstrip("\n"), 0, ""
        for begin, end, kind in found:
            if begin < at:
                continue
            out += html.escape(text[at:begin]) + f'<i class="{kind}">{html.escape(text[begin:end])}</i>'
            at = end
        plain[row - 1] = out + html.escape(text[at:])
    return plain


def _kind(token: tokenize.TokenInfo) -> str | None:
    if token.type == tokenize.COMMENT:
        return "c"
    if token.type == tokenize.STRING or tokenize.tok_name[token.type].startswith("FSTRING"):
        return "s"
    if token.type == tokenize.NUMBER:
        return "n"
    if token.type == tokenize.NAME and keyword.iskeyword(token.string):
        return "k"
    return None


def _columns(code: CodeType, instruction: int, line: int, text: str) -> tuple[int, int] | None:
    """The part of the line that failed, in characters; from Python 3.11 on."""
    positions = getattr(code, "co_positions", None)
    if positions is None or instruction < 0:
        return None
    for number, (row, end_row, begin, end) in enumerate(positions()):
        if number == instruction // 2:
            if row != line or begin is None or end is None:
                return None
            encoded = text.encode()
            if row != end_row:
                return len(encoded[:begin].decode("utf-8", "replace")), len(text.rstrip())
            return (
                len(encoded[:begin].decode("utf-8", "replace")),
                len(encoded[:end].decode("utf-8", "replace")),
            )
    return None


def _is_own(path: str) -> bool:
    """Whether a file is the application's."""
    if path.startswith(("<", PACKAGE + os.sep)):
        return False
    return not path.startswith(LIBRARIES) and f"{os.sep}site-packages{os.sep}" not in path


def _frames(trace: TracebackType | None) -> list[tuple[FrameType, int, int]]:
    found = []
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lineno, trace.tb_lasti))
        trace = trace.tb_next
    if len(found) > FRAMES_MAX:
        found = found[: FRAMES_MAX // 2] + found[-FRAMES_MAX // 2 :]
    return found


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """The exception and those before it, the last first, each with how it led to the next."""
    found: list[tuple[BaseException, str]] = []
    how, at = "", error
    seen: set[int] = set()
    while len(found) < CHAIN_MAX and id(at) not in seen:
        seen.add(id(at))
        found.append((at, how))
        if at.__cause__ is not None:
            at, how = at.__cause__, "was the direct cause of it"
        elif at.__context__ is not None and not at.__suppress_context__:
            at, how = at.__context__, "was being handled when it was raised"
        else:
            break
    return found


class _Page:
    def __init__(self, error: BaseException, environ: Mapping[str, Any]) -> None:
        self.error = error
        self.environ = environ
        self.values = _Values()
        self.values.learn(os.environ.items())
        self.values.learn((str(name), value) for name, value in environ.items())
        for at, _ in _chain(error):
            for frame, _, _ in _frames(at.__traceback__):
                self.values.learn(frame.f_locals.items())

    def text(self) -> str:
        name, message = self._named(self.error)
        method = str(self.environ.get("REQUEST_METHOD", ""))
        path = self.values.clean(_path(self.environ))
        out = [
            "<!doctype html><html lang=en><head><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width,initial-scale=1">',
            f"<title>{html.escape(name)} at {html.escape(path)}</title><style>{STYLE}</style></head>",
            "<body><main>",
            f"<header><p class=where><b>{html.escape(method)}</b> {html.escape(path)}</p>",
            f"<h1>{html.escape(name)}</h1>",
            f"<p class=message>{html.escape(message)}</p>" if message else "",
            *(
                f"<p class=note>{html.escape(self.values.clean(str(note)))}</p>"
                for note in _notes(self.error)
            ),
            "</header>",
        ]
        for number, (error, how) in enumerate(_chain(self.error)):
            if number:
                name, message = self._named(error)
                out.append(
                    f"<h2 class=chained>{html.escape(name)} <small>{how}</small></h2>"
                    f"<p class=message>{html.escape(message)}</p>"
                )
            out.append(self._trace(error, first=number == 0))
        out.append(self._request())
        plain = "".join(traceback.format_exception(type(self.error), self.error, self.error.__traceback__))
        out.append(
            "<section><h2>As text</h2><button id=copy type=button>Copy</button>"
            f"<pre id=plain class=plain tabindex=0>{html.escape(self.values.clean(plain))}</pre></section>"
            "<footer>This page is shown to this machine alone, because <code>TRIVET_DEV</code> is set. "
            f"Python {platform.python_version()}, <code>{html.escape(sys.executable)}</code>"
            f"</footer></main><script>{SCRIPT}</script></body></html>"
        )
        return "\n".join(out)

    def _named(self, error: BaseException) -> tuple[str, str]:
        kind = type(error)
        module = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
        try:
            message = str(error)
        except Exception:  # noqa: BLE001 - anybody's `__str__`
            message = "(its text cannot be had)"
        return module + kind.__qualname__, self.values.clean(message)

    def _trace(self, error: BaseException, first: bool) -> str:
        frames = _frames(error.__traceback__)
        own = [_is_own(frame.f_code.co_filename) for frame, _, _ in frames]
        # The last line of one's own is what one wants to see; without any, the last of all.
        last = max((i for i, mine in enumerate(own) if mine), default=len(frames) - 1)
        out = ["<section class=trace>"]
        skipped: list[str] = []
        for number, (frame, line, instruction) in enumerate(frames):
            shown = self._frame(frame, line, instruction, opened=first and number == last, own=own[number])
            if own[number] or number == last:
                out.append(_folded(skipped))
                skipped = []
                out.append(shown)
            else:
                skipped.append(shown)
        out.append(_folded(skipped))
        if isinstance(error, SyntaxError) and error.filename and error.lineno:
            out.append(self._syntax(error))
        out.append("</section>")
        return "".join(out)

    def _frame(self, frame: FrameType, line: int, instruction: int, opened: bool, own: bool) -> str:
        code = frame.f_code
        path = code.co_filename
        name = getattr(code, "co_qualname", code.co_name)
        lines = linecache.getlines(path, frame.f_globals)
        return (
            f"<details class='frame{' own' if own else ''}'{' open' if opened else ''}><summary>"
            f"<b>{html.escape(name)}</b> <span>{html.escape(_short(path))}<em>:{line}</em></span></summary>"
            f"{self._source(path, lines, line, code, instruction)}{self._locals(frame)}</details>"
        )

    def _source(self, path: str, lines: list[str], line: int, code: CodeType | None, instruction: int) -> str:
        if not 0 < line <= len(lines):
            return "<p class=none>There is no source to show.</p>"
        begin, end = max(0, line - 1 - CONTEXT_LINES), min(len(lines), line + CONTEXT_LINES)
        rows = _highlighted(path, lines)
        out = [f'<pre class=source tabindex=0 data-path="{html.escape(path)}">']
        for row in range(begin, end):
            if row == line - 1:
                text = lines[row].rstrip("\n")
                columns = _columns(code, instruction, line, text) if code is not None else None
                body = rows[row]
                if columns and text[: columns[0]].strip() + text[columns[1] :].strip():
                    here = html.escape(text[columns[0] : columns[1]])
                    body = (
                        html.escape(text[: columns[0]])
                        + f"<mark>{here}</mark>"
                        + html.escape(text[columns[1] :])
                    )
                out.append(f"<span class=here><u>{row + 1}</u>{body}\n</span>")
            else:
                out.append(f"<span><u>{row + 1}</u>{rows[row]}\n</span>")
        return "".join(out) + "</pre>"

    def _syntax(self, error: SyntaxError) -> str:
        path, line = str(error.filename), int(error.lineno or 1)
        source = self._source(path, linecache.getlines(path), line, None, -1)
        return (
            f"<details class='frame own' open><summary><b>here</b> <span>{html.escape(_short(path))}"
            f"<em>:{line}</em></span></summary>{source}</details>"
        )

    def _locals(self, frame: FrameType) -> str:
        plain = frame.f_code.co_name == "<module>"
        rows: list[str] = []
        for name, value in list(frame.f_locals.items()):
            if name.startswith("__") or (plain and isinstance(value, (ModuleType, FunctionType, type))):
                continue
            if len(rows) == LOCALS_MAX:
                rows.append("<tr><th>…<td>")
                break
            rows.append(_row(name, self.values.shown(name, value)))
        return f"<table class=locals>{''.join(rows)}</table>" if rows else ""

    def _request(self) -> str:
        environ = self.environ
        about = [("Client", str(environ.get("REMOTE_ADDR", "")))]
        if environ.get("SCRIPT_NAME"):
            about.append(("Mounted at", str(environ["SCRIPT_NAME"])))
        if environ.get("CONTENT_TYPE"):
            about.append(("Content-Type", str(environ["CONTENT_TYPE"])))
        if environ.get("CONTENT_LENGTH"):
            about.append(("Content-Length", str(environ["CONTENT_LENGTH"])))
        fields = [
            (name[5:].replace("_", "-").title(), str(value))
            for name, value in sorted(environ.items())
            if name.startswith("HTTP_")
        ]
        out = "<section><h2>Request</h2><table>"
        query = str(environ.get("QUERY_STRING") or "")
        if query:
            from urllib.parse import parse_qsl

            for name, value in parse_qsl(query, keep_blank_values=True)[:ITEMS_MAX]:
                about.append((f"?{name}", value))
        for name, value in [*about, *fields]:
            secret = is_secret(name.lstrip("?").replace("-", "_"))
            shown = self._cookies(value) if name == "Cookie" else MASKED if secret else value
            out += _row(name, self.values.clean(_cut(shown)))
        return out + "</table></section>"

    @staticmethod
    def _cookies(value: str) -> str:
        """Their names are no secret."""
        return "; ".join(
            f"{pair.partition('=')[0].strip()}={MASKED}" for pair in value.split(";") if pair.strip()
        )


def _notes(error: BaseException) -> list[Any]:
    return list(getattr(error, "__notes__", None) or [])


def _path(environ: Mapping[str, Any]) -> str:
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    return str(raw) if raw else path.encode("latin-1", "replace").decode("utf-8", "replace")


def _short(path: str) -> str:
    for folder in (os.getcwd() + os.sep, *sorted(LIBRARIES, key=len, reverse=True)):
        if path.startswith(folder):
            return path[len(folder) :]
    return path


def _row(name: str, value: str) -> str:
    masked = " class=masked" if value == MASKED else ""
    return f"<tr><th scope=row>{html.escape(name)}<td{masked}><code>{html.escape(value)}</code>"


def _folded(frames: list[str]) -> str:
    if not frames:
        return ""
    count = "a frame" if len(frames) == 1 else f"{len(frames)} frames"
    return f"<details class=folded><summary>{count} of libraries</summary>{''.join(frames)}</details>"


STYLE = """
:root {
  color-scheme: light dark;
  --bg: #f6f5f2; --card: #fff; --ink: #1d1b1a; --soft: #6b6560; --line: #e4e0da;
  --red: #b3261e; --wash: #fdeceb; --mark: #f8c9c4; --code: #fbfaf8;
  --k: #8b2f8f; --s: #2f6f3e; --n: #8a5300; --c: #857e77;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #161514; --card: #1f1e1c; --ink: #ece8e3; --soft: #a39b93; --line: #34312e;
    --red: #ff8a80; --wash: #3a2220; --mark: #7a2f2a; --code: #191817;
    --k: #d7a1dc; --s: #9ccc9f; --n: #e0b070; --c: #8d857c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
}
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
code, pre, summary b, .where, th {
  font-family: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace;
}
header { border-left: 4px solid var(--red); padding-left: 1.25rem; margin-bottom: 2rem; }
.where { margin: 0; color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
h1 { margin: .25rem 0; font-size: 1.75rem; line-height: 1.2; color: var(--red); overflow-wrap: anywhere; }
.message { margin: .25rem 0; font-size: 1.125rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.note { margin: .25rem 0; color: var(--soft); white-space: pre-wrap; }
h2 { font-size: 1rem; margin: 2.25rem 0 .75rem; }
h2 small { font-weight: 400; color: var(--soft); }
details.frame, details.folded, table, .plain {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px;
}
details.frame { margin: .5rem 0; overflow: hidden; }
details.folded { margin: .5rem 0; border-style: dashed; background: none; }
details.folded > .frame { margin: .5rem; }
summary {
  cursor: pointer; padding: .6rem .9rem;
  display: flex; flex-wrap: wrap; gap: .25rem 1rem; justify-content: space-between;
}
summary b { font-size: .875rem; }
summary span { color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere; }
summary em { font-style: normal; color: var(--ink); }
.folded > summary { color: var(--soft); font-size: .8125rem; }
summary:focus-visible, button:focus-visible, pre:focus-visible { outline: 2px solid var(--red); }
pre { margin: 0; font-size: .8125rem; line-height: 1.6; overflow-x: auto; tab-size: 4; }
.source { background: var(--code); border-top: 1px solid var(--line); padding: .5rem 0; }
.source span { display: block; padding-right: 1rem; min-width: max-content; }
.source u {
  display: inline-block; width: 3.5rem; padding-right: 1rem;
  text-align: right; text-decoration: none; color: var(--c); user-select: none;
}
.source .here { background: var(--wash); }
.source .here u { color: var(--red); font-weight: 700; }
mark { background: var(--mark); color: inherit; border-radius: 2px; }
i { font-style: normal; }
i.k { color: var(--k); }
i.s { color: var(--s); }
i.n { color: var(--n); }
i.c { color: var(--c); }
table {
  width: 100%; font-size: .8125rem;
  border-collapse: separate; border-spacing: 0; table-layout: fixed;
}
.frame table { border: 0; border-top: 1px solid var(--line); border-radius: 0; }
th { width: 13rem; text-align: left; font-weight: 400; color: var(--soft); overflow-wrap: anywhere; }
th, td { padding: .35rem .9rem; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
td code { white-space: pre-wrap; overflow-wrap: anywhere; }
td.masked { color: var(--soft); }
.none { margin: 0; padding: .5rem .9rem; color: var(--soft); }
section { position: relative; }
.plain { padding: .9rem; max-height: 24rem; overflow: auto; }
button {
  position: absolute; right: 0; top: -.25rem; padding: .2rem .8rem;
  font: inherit; font-size: .8125rem; color: inherit; cursor: pointer;
  background: var(--card); border: 1px solid var(--line); border-radius: 6px;
}
footer { margin-top: 2.5rem; color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding-top: 1.5rem; }
  th { width: 8rem; }
  .source u { width: 2.75rem; }
}
"""

SCRIPT = """
const button=document.getElementById("copy");
button.addEventListener("click",()=>{navigator.clipboard.writeText(document.getElementById("plain").textContent)
.then(()=>{button.textContent="Copied"},()=>{button.textContent="Not allowed here"})});
"""

# A line for each request.

RESET, BOLD, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
STATUS_COLORS = {2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}


def wants_color(stream: Any = None) -> bool:
    """Whether lines written to ``stream`` (the standard error) may have colours: a terminal, and no
    ``NO_COLOR``.
    """
    stream = sys.stderr if stream is None else stream
    isatty = getattr(stream, "isatty", None)
    return not os.environ.get("NO_COLOR") and isatty is not None and bool(isatty())


def log_line(
    clock: str, method: str, target: str, status: int, seconds: float, *, color: bool = False
) -> str:
    """``23:59:01 GET /path 200 1.5 ms``, without an end of line; what is not printable in ``target`` is
    escaped.
    """
    target = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in target)
    method = "".join(c if c.isprintable() else "?" for c in method)
    time = f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
    if not color:
        return f"{clock} {method} {target} {status} {time}"
    paint = STATUS_COLORS.get(status // 100, "")
    return f"{DIM}{clock}{RESET} {BOLD}{method}{RESET} {target} {paint}{status}{RESET} {DIM}{time}{RESET}"
