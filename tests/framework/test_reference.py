"""`docs/reference/app.md` is made from the docstrings of the package; `TRIVET_BLESS=1` writes it anew."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

from framework import drive

PAGE = drive.ROOT / "docs" / "reference" / "app.md"
COMMAND = "TRIVET_BLESS=1 .venv-test/bin/python -m pytest tests/framework/test_reference.py"
HEAD = f"""# `trivet`, the Python package

What `from trivet import …` gives, from its own docstrings. The [guide](../guide/app/quickstart.md) explains
how the parts meet.

<!-- made from the docstrings in python/trivet: {COMMAND} writes it anew -->
"""
MODULES = {
    "trivet": "The framework",
    "trivet.testing": "`trivet.testing`",
    "trivet.templates": "`trivet.templates`",
    "trivet.simple_server": "`trivet.simple_server`",
    "trivet.db": "`trivet.db`",
}
# Of classes that only pass on what the standard library's have.
PLAIN = (dict, Exception, BaseException, object, str, int, tuple, list)


def names_of(module: types.ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    names = list(listed) if listed else [n for n in vars(module) if not n.startswith("_")]
    return [n for n in names if not inspect.ismodule(getattr(module, n))]


def doc_of(thing: object) -> str:
    """The docstring, if it is the thing's own."""
    doc = inspect.getdoc(thing) or ""
    if not inspect.isclass(thing) and not callable(thing) and doc == inspect.getdoc(type(thing)):
        return ""
    return doc.replace("::\n", ":\n").strip()


def signature_of(thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    parameters = [
        p.replace(default=shown(p.default, repr), annotation=shown(p.annotation, str))
        for p in signature.parameters.values()
        if p.name not in ("self", "cls", "slf")
    ]
    text = str(
        signature.replace(parameters=parameters, return_annotation=shown(signature.return_annotation, str))
    )
    return re.sub(r"\b(?:typing|collections\.abc|trivet(?:\.\w+)*)\.", "", text)


def shown(value: Any, how: Callable[[Any], str]) -> Any:
    """A default or an annotation as a reader writes it: no quotes around a type, no addresses."""
    if value is inspect.Parameter.empty:
        return value
    text = value.__qualname__ if isinstance(value, type) else re.sub(r" at 0x[0-9a-f]+", "", how(value))
    return Shown("…" if text == "Ellipsis" or text.startswith("<") else text)


class Shown(str):
    """A text whose `repr` is itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public members that the class and its own bases define, in their order."""
    seen: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base in PLAIN or not base.__module__.startswith("trivet"):
            continue
        seen |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    yield from sorted(seen.items())


def described(name: str, thing: Any, level: int = 3) -> Iterator[str]:
    mark = "#" * level
    if inspect.isclass(thing):
        bases = [
            b.__name__
            for b in thing.__bases__
            if b.__name__ not in ("object", name) and not b.__name__.startswith("_")
        ]
        is_made = "__init__" in vars(thing) or thing.__text_signature__
        yield f"{mark} class `{name}{signature_of(thing) if is_made else ''}`"
        if bases:
            yield f"Is a {', '.join(f'`{b}`' for b in bases)}."
        yield doc_of(thing)
        for member, value in members(thing):
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            if inspect.isclass(value) or isinstance(value, types.MemberDescriptorType):
                continue
            doc = doc_of(value)
            if callable(value):
                yield f"- `{member}{signature_of(value)}`" + indented(doc)
            elif isinstance(value, property) or inspect.isdatadescriptor(value):
                yield f"- `{member}`" + indented(doc)
    elif callable(thing):
        yield f"{mark} `{name}{signature_of(thing)}`"
        yield doc_of(thing)
    else:
        yield f"{mark} `{name}`"
        yield doc_of(thing) or MARKERS.get(name, "")


MARKERS = {
    "Body": "`todo: Body[Todo]`: the body, decoded. For a type checker it is a `Todo`.",
    "Form": "`name: Form[str]`: a field of the form. For a type checker it is a `str`.",
}


def indented(doc: str) -> str:
    if not doc:
        return ""
    return "  \n  " + doc.replace("\n", "\n  ").replace("\n  \n", "\n\n")


def reference() -> str:
    """The page."""
    parts = [HEAD.strip()]
    for name, title in MODULES.items():
        module = importlib.import_module(name)
        parts.append(f"## {title}")
        if name != "trivet":
            parts.append(doc_of(module))
        for member in sorted(names_of(module), key=str.lower):
            thing = getattr(module, member)
            if name == "trivet" or getattr(thing, "__module__", name).startswith(name):
                parts += described(member, thing)
    return "\n\n".join(part for part in parts if part) + "\n"


def test_the_reference_is_what_the_docstrings_say() -> None:
    page = reference()
    if os.environ.get("TRIVET_BLESS"):
        PAGE.write_text(page)
    assert PAGE.exists(), f"{PAGE} is missing: {COMMAND} writes it"
    assert PAGE.read_text() == page, f"{PAGE} is stale: {COMMAND} writes it anew"


def test_everything_public_is_documented() -> None:
    bare = []
    for name in MODULES:
        module = importlib.import_module(name)
        for member in names_of(module):
            thing = getattr(module, member)
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and not doc_of(thing):
                bare.append(f"{name}.{member}")
            if inspect.isclass(thing):
                # What a slot or a field of a dataclass holds is said where the class is.
                bare += [
                    f"{name}.{member}.{inner}"
                    for inner, value in members(thing)
                    if not inspect.ismemberdescriptor(value)
                    and (inspect.isroutine(value) or inspect.isdatadescriptor(value))
                    and not inspect.getdoc(getattr(thing, inner))
                ]
    assert not bare, bare
