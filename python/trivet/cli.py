"""`trivet routes`, `trivet openapi` and `trivet db` in the app's own Python: ``python -m trivet.cli …``."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from trivet.app import App, Route

FOUND, USAGE, SOFTWARE = 1, 64, 70


class Refused(Exception):
    """A line for the user, and one that helps."""

    def __init__(self, message: str, hint: str = "", code: int = SOFTWARE) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def load(target: str) -> App:
    """The ``trivet.App`` that ``MODULE:APP`` names. Raises Refused."""
    try:
        from trivet.app import App
    except ImportError as error:
        message, _, hint = str(error).partition("\nhint: ")
        raise Refused(message, hint) from None
    from trivet.worker.gateway import Unloadable, load_app, without_our_frames

    try:
        app, name = load_app(target)
    except Unloadable as error:
        if error.cause is not None:
            trace = without_our_frames(error.cause.__traceback__)
            traceback.print_exception(type(error.cause), error.cause, trace)
        raise Refused(error.summary, error.hint or "") from None
    if not isinstance(app, App):
        kind = type(app)
        raise Refused(
            f"`{name}` is no `trivet.App` but of type `{kind.__module__}.{kind.__qualname__}`",
            "only a `trivet.App` knows its routes",
        )
    return app


def frozen(app: App) -> list[Route]:
    """Its routes. Raises Refused where the app cannot start."""
    try:
        return app.routes()
    except (TypeError, ValueError) as error:
        message, _, hint = str(error).partition("\nhint: ")
        raise Refused(message, hint) from None


def name_of(function: Callable[..., Any]) -> str:
    """``module.function``."""
    inner = inspect.unwrap(function)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return f"{getattr(inner, '__module__', None) or type(inner).__module__}.{name}"


def record(route: Route) -> dict[str, Any]:
    """A route as JSON has it."""
    return {
        "methods": list(route.methods),
        "template": route.template,
        "name": route.name,
        "handler": name_of(route.handler),
        "kind": route.kind,
        "needs": route.needs,
        "public": route.public,
        "guarded": route.is_guarded,
        "interceptors": [
            {"name": link.name, "pattern": link.pattern, "guard": link.guard} for link in route.chain
        ],
    }


def row(route: Route) -> tuple[str, str, str, str]:
    """A route as a line of the table: a guard has a ``!`` behind its name."""
    methods = ", ".join(route.methods) if route.methods else "any"
    chain = " → ".join(link.name + ("!" if link.guard else "") for link in route.chain)
    notes = " ".join(
        note
        for note in ("public" if route.public else "", f"needs={route.needs}" if route.needs else "")
        if note
    )
    return methods, route.template, name_of(route.handler), "  ".join(part for part in (chain, notes) if part)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, without blanks at the ends of lines."""
    lines = [("METHOD", "TEMPLATE", "HANDLER", "INTERCEPTORS"), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def routes(given: argparse.Namespace) -> int:
    app = load(given.app)
    if given.unguarded:
        try:
            found = app.unguarded()
        except (TypeError, ValueError) as error:
            message, _, hint = str(error).partition("\nhint: ")
            raise Refused(message, hint) from None
    else:
        found = frozen(app)
    if given.json:
        sys.stdout.write(json.dumps([record(route) for route in found], indent=2, default=str) + "\n")
    elif found or not given.unguarded:
        sys.stdout.write(table(map(row, found)))
    if not given.unguarded:
        return 0
    count = len(found)
    told = "every route has a guard or is public" if not count else f"{count} without a guard"
    sys.stderr.write(told + "\n")
    return FOUND if count else 0


def openapi(given: argparse.Namespace) -> int:
    from trivet.openapi import of

    app = load(given.app)
    frozen(app)
    sys.stdout.write(json.dumps(of(app), indent=2, ensure_ascii=False) + "\n")
    return 0


class Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}\nhint: `{self.prog} --help`\n")
        sys.exit(USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 for what was looked for and found, 64 and 70 as everywhere."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:2] == ["db", "migrate"]:
        from trivet.db.migrate import main as migrate

        return migrate(given[2:])
    parser = Arguments(prog="trivet")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("routes", help="shows the routes of an app")
    one.add_argument("app", metavar="MODULE:APP")
    one.add_argument("--unguarded", action="store_true", help="those without a guard; exit code 1 if any")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=routes)
    two = commands.add_parser("openapi", help="prints the OpenAPI document of an app")
    two.add_argument("app", metavar="MODULE:APP")
    two.set_defaults(run=openapi)
    try:
        parsed = parser.parse_args(given)
        code: int = parsed.run(parsed)
        return code
    except Refused as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.code


if __name__ == "__main__":
    sys.exit(main())
