"""An OpenAPI 3.1 document from the signatures of handlers (spec.openapis.org/oas/v3.1.1).

What a signature says is in it: path, query and form parameters with their types and defaults, uploads,
bodies of dataclasses (msgspec and pydantic by their own schemas), and answers by the annotation of what is
returned. The first line of a handler's docstring is the summary, the rest the description.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Union, get_args, get_origin

if TYPE_CHECKING:
    from .app import App

__all__ = ["Operation", "document", "of"]

VERSION = "3.1.1"
JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
# OpenAPI has a place for these methods alone.
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

PARAMETER = re.compile(r"{([^}]+)}")

FORMATS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    bytes: {"type": "string", "contentMediaType": "application/octet-stream"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": "string", "format": "decimal"},
}
CONVERTERS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
}


class Parameter(Protocol):
    """An argument of a handler, as ``trivet.plan`` has planned it."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def annotation(self) -> Any: ...
    @property
    def many(self) -> bool: ...
    @property
    def required(self) -> bool: ...
    @property
    def default(self) -> Any: ...


@dataclass
class Operation:
    """One method of one route. ``returns``: the annotation of the handler's result,
    ``inspect.Parameter.empty`` for none.
    """

    method: str
    template: str
    handler: Callable[..., Any]
    parameters: Sequence[Parameter] = ()
    returns: Any = inspect.Parameter.empty
    tags: Sequence[str] = field(default_factory=list)


def of(
    app: App,
    *,
    title: str | None = None,
    version: str = "0.1.0",
    description: str | None = None,
    servers: Sequence[str] = (),
) -> dict[str, Any]:
    """The document of an app: its handlers, in the order of registration; files and mounts are left out.

    Without a ``title`` it is the name of the module of the first handler.
    """
    from .plan import hints_of

    operations = []
    for route in app.routes():
        if route.kind != "handler":
            continue
        returns = hints_of(route.handler, route._names).get("return", inspect.Parameter.empty)
        tags = [] if route._group is None else [route._group._prefix.strip("/") or "/"]
        for method in route.methods:
            operations.append(
                Operation(method, route.template, route.handler, route.parameters, returns, tags)
            )
    if title is None:
        first = inspect.unwrap(operations[0].handler) if operations else None
        title = str(getattr(first, "__module__", "app")).partition(".")[0]
    return document(operations, title=title, version=version, description=description, servers=servers)


def document(
    operations: Iterable[Operation],
    *,
    title: str,
    version: str = "0.1.0",
    description: str | None = None,
    servers: Sequence[str] = (),
) -> dict[str, Any]:
    """The document, as what ``json.dumps`` takes."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    shapes: dict[str, str] = {}
    for operation in operations:
        method = operation.method.lower()
        path, captured = parts_of(operation.template)
        # To OpenAPI `/a/{x}` and `/a/{y}` are one path: the first names count, and of two that differ in a
        # converter alone the first is told.
        known = shapes.setdefault(PARAMETER.sub("{}", path), path)
        if method not in METHODS or method in paths.get(known, {}):
            continue
        told = _operation(operation, captured, schemas)
        names = dict(zip(PARAMETER.findall(path), PARAMETER.findall(known), strict=True))
        for parameter in told.get("parameters", ()):
            if parameter["in"] == "path":
                parameter["name"] = names[parameter["name"]]
        told["operationId"] = _unique(told["operationId"], method, taken)
        paths.setdefault(known, {})[method] = told
    info: dict[str, Any] = {"title": title, "version": version}
    if description:
        info["description"] = description
    made: dict[str, Any] = {"openapi": VERSION, "info": info}
    if servers:
        made["servers"] = [{"url": url} for url in servers]
    made["paths"] = paths
    if schemas.components:
        made["components"] = {"schemas": dict(sorted(schemas.components.items()))}
    return made


def parts_of(template: str) -> tuple[str, dict[str, str]]:
    """``/users/{id:int}`` as ``/users/{id}`` with the converter of each parameter."""
    path, captured, at = "", {}, 0
    while at < len(template):
        if template[at] != "{":
            path += template[at]
            at += 1
            continue
        depth, end = 1, at + 1
        while end < len(template) and depth:
            # A pattern of `re(…)` has braces of its own, and may hide one behind a backslash.
            step = 2 if template[end] == "\\" else 1
            depth += {"{": 1, "}": -1}.get(template[end], 0)
            end += step
        name, _, converter = template[at + 1 : end - 1].partition(":")
        captured[name] = converter or "str"
        path += "{" + name + "}"
        at = end
    return path, captured


def _unique(name: str, method: str, taken: set[str]) -> str:
    candidate, number = name, 1
    if candidate in taken:
        candidate = f"{name}_{method}"
    while candidate in taken:
        number += 1
        candidate = f"{name}_{method}_{number}"
    taken.add(candidate)
    return candidate


def _operation(operation: Operation, captured: Mapping[str, str], schemas: Schemas) -> dict[str, Any]:
    handler = inspect.unwrap(operation.handler)
    told: dict[str, Any] = {"operationId": getattr(handler, "__name__", type(handler).__name__)}
    text = inspect.getdoc(handler) if inspect.isroutine(handler) else None
    if text:
        summary, _, rest = text.partition("\n")
        told["summary"] = summary.strip()
        if rest.strip():
            told["description"] = rest.strip()
    if operation.tags:
        told["tags"] = list(operation.tags)
    parameters = list(_parameters(operation, captured, schemas))
    if parameters:
        told["parameters"] = parameters
    body = _body(operation, schemas)
    if body is not None:
        told["requestBody"] = body
    told["responses"] = _responses(operation, schemas, refused=bool(parameters), body=body is not None)
    return told


def _parameters(
    operation: Operation, captured: Mapping[str, str], schemas: Schemas
) -> Iterator[dict[str, Any]]:
    known = {p.key: p for p in operation.parameters if p.source == "path"}
    for name, converter in captured.items():
        parameter = known.get(name)
        schema: dict[str, Any]
        if parameter is not None and parameter.annotation is not str:
            schema = schemas.of(parameter.annotation)
        elif converter.startswith("re("):
            schema = {"type": "string", "pattern": f"^(?:{converter[3:-1]})$"}
        else:
            schema = dict(CONVERTERS.get(converter, {"type": "string"}))
        told: dict[str, Any] = {"name": name, "in": "path", "required": True, "schema": schema}
        if converter == "path":
            told["description"] = "May have slashes."
        yield told
    for parameter in operation.parameters:
        if parameter.source == "query":
            told = {"name": parameter.key, "in": "query", "schema": _value(parameter, schemas)}
            if parameter.required:
                told["required"] = True
            yield told


def _value(parameter: Parameter, schemas: Schemas) -> dict[str, Any]:
    item = schemas.of(parameter.annotation)
    schema = {"type": "array", "items": item} if parameter.many else dict(item)
    if not parameter.required and parameter.default is not None and "$ref" not in schema:
        default = _plain(parameter.default)
        if default is not None and default != []:
            schema["default"] = default
    return schema


def _plain(value: Any) -> Any:
    """A default as JSON; None where it has no form."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None


def _body(operation: Operation, schemas: Schemas) -> dict[str, Any] | None:
    for parameter in operation.parameters:
        if parameter.source == "body":
            kind = {bytes: "application/octet-stream", str: "text/plain"}.get(parameter.annotation, JSON)
            content = {kind: {"schema": schemas.of(parameter.annotation)}}
            return {"content": content, "required": parameter.required}
    fields = [p for p in operation.parameters if p.source in ("form", "upload")]
    if not fields:
        return None
    properties: dict[str, Any] = {}
    for parameter in fields:
        if parameter.source == "upload":
            one = {"type": "string", "contentMediaType": "application/octet-stream"}
            properties[parameter.key] = {"type": "array", "items": one} if parameter.many else one
        else:
            properties[parameter.key] = _value(parameter, schemas)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    required = [p.key for p in fields if p.required]
    if required:
        schema["required"] = required
    uploads = any(p.source == "upload" for p in fields)
    kinds = (MULTIPART,) if uploads else (FORM, MULTIPART)
    return {"content": {kind: {"schema": schema} for kind in kinds}, "required": bool(required)}


def _responses(operation: Operation, schemas: Schemas, *, refused: bool, body: bool) -> dict[str, Any]:
    returns = operation.returns
    told: dict[str, Any] = {}
    for one in _alternatives(returns):
        status, content = _answer(one, schemas)
        known = told.setdefault(status, {"description": _phrase(status)})
        if content:
            known.setdefault("content", {}).update(content)
    if refused or body:
        told.setdefault("400", {"description": "The request has not the form that is wanted."})
    if body and any(p.source == "body" for p in operation.parameters):
        told.setdefault("422", {"description": "The body is not what is wanted."})
    return told


def _phrase(status: str) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return "Any other answer."


def _alternatives(returns: Any) -> list[Any]:
    """A handler that returns `User | None` gives 404s by itself: each is told."""
    if get_origin(returns) in (Union, types.UnionType):
        return list(get_args(returns))
    return [returns]


def _answer(returns: Any, schemas: Schemas) -> tuple[str, dict[str, Any]]:
    """Status and content of a returned annotation."""
    while get_origin(returns) is Annotated:
        returns = get_args(returns)[0]
    status = "200"
    if get_origin(returns) is tuple:
        returns, *rest = get_args(returns)
        told = rest[0] if rest else None
        if get_origin(told) is Literal and isinstance(get_args(told)[0], int):
            status = str(get_args(told)[0])
        elif told is int:
            status = "default"
    if returns is None or returns is type(None):
        return "204" if status == "200" else status, {}
    if returns is str:
        return status, {"text/html": {"schema": {"type": "string"}}}
    if returns is bytes:
        return status, {"application/octet-stream": {"schema": schemas.of(bytes)}}
    if returns in (inspect.Parameter.empty, Any, object) or not schemas.knows(returns):
        return ("default" if status == "200" and returns is not inspect.Parameter.empty else status), {}
    return status, {JSON: {"schema": schemas.of(returns)}}


class Schemas:
    """JSON Schemas (draft 2020-12) of Python's types. Classes are components, told once."""

    def __init__(self) -> None:
        self.components: dict[str, dict[str, Any]] = {}
        self.names: dict[Any, str] = {}

    def knows(self, annotation: Any) -> bool:
        """Whether a value of the type is JSON."""
        while get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        if annotation in FORMATS or annotation in (dict, list, tuple, set, frozenset):
            return True
        origin = get_origin(annotation)
        if origin is Literal:
            return True
        if origin in (list, dict, tuple, set, frozenset, Union, types.UnionType):
            return True
        if isinstance(origin, type) and issubclass(origin, (Mapping, Sequence)):
            return True
        return isinstance(annotation, type) and (
            dataclasses.is_dataclass(annotation)
            or issubclass(annotation, enum.Enum)
            or typing.is_typeddict(annotation)
            or hasattr(annotation, "_fields")
            or hasattr(annotation, "model_json_schema")
            or hasattr(annotation, "__struct_fields__")
        )

    def of(self, annotation: Any) -> dict[str, Any]:
        """The schema of a type; ``{}``, which takes everything, where nothing is known of it."""
        if get_origin(annotation) is Annotated:
            return self.of(get_args(annotation)[0])
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__)
        if annotation is None:
            annotation = type(None)
        try:
            known = FORMATS.get(annotation)
        except TypeError:
            known = None
        if known is not None:
            return dict(known)
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Literal:
            return {"enum": [_plain(value) for value in args]}
        if origin in (Union, types.UnionType):
            return self._any_of([self.of(arg) for arg in args])
        if origin is tuple or annotation is tuple:
            return self._tuple(args)
        container = origin if isinstance(origin, type) else annotation
        if isinstance(container, type) and container is not str:
            if dataclasses.is_dataclass(container) or typing.is_typeddict(container):
                return self._component(container, self._fields)
            if issubclass(container, enum.Enum):
                return self._component(container, self._enum)
            if hasattr(container, "model_json_schema"):
                return self._component(container, self._pydantic)
            if hasattr(container, "__struct_fields__"):
                return self._component(container, self._fields)
            if issubclass(container, tuple) and hasattr(container, "_fields"):
                return self._component(container, self._fields)
            if issubclass(container, Mapping):
                return {
                    "type": "object",
                    **({"additionalProperties": self.of(args[1])} if len(args) == 2 else {}),
                }
            if issubclass(container, (set, frozenset)):
                return {"type": "array", "uniqueItems": True, **({"items": self.of(args[0])} if args else {})}
            if issubclass(container, Sequence):
                return {"type": "array", **({"items": self.of(args[0])} if args else {})}
        return {}

    @staticmethod
    def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
        kinds = [schema.get("type") for schema in schemas]
        # `str | None`, the usual case, in few words.
        if len(schemas) == 2 and {"type": "null"} in schemas and all(isinstance(kind, str) for kind in kinds):
            other = next(schema for schema in schemas if schema != {"type": "null"})
            return {**other, "type": [other["type"], "null"]}
        return {"anyOf": schemas}

    def _tuple(self, args: tuple[Any, ...]) -> dict[str, Any]:
        if not args:
            return {"type": "array"}
        if len(args) == 2 and args[1] is Ellipsis:
            return {"type": "array", "items": self.of(args[0])}
        items = [self.of(arg) for arg in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _component(self, cls: type, make: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
        name = self.names.get(cls)
        if name is None:
            name = self._name(cls)
            self.names[cls] = name
            self.components[name] = {}  # a class may have itself in its fields
            self.components[name] = make(cls)
        return {"$ref": f"#/components/schemas/{name}"}

    def _name(self, cls: type) -> str:
        taken = set(self.components)
        for candidate in (cls.__name__, f"{cls.__module__}.{cls.__qualname__}"):
            name = re.sub(r"[^A-Za-z0-9._-]", "_", candidate)
            if name not in taken:
                return name
        number = 2
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    def _fields(self, cls: type) -> dict[str, Any]:
        hints = typing.get_type_hints(cls, include_extras=True)
        properties: dict[str, Any] = {}
        required: list[str] = []
        for name, needed, default in _fields_of(cls, hints):
            schema = self.of(_unrequired(hints.get(name, Any)))
            plain = _plain(default)
            if plain is not None and "$ref" not in schema:
                schema["default"] = plain
            properties[name] = schema
            if needed:
                required.append(name)
        told: dict[str, Any] = {"type": "object", "properties": properties}
        text = inspect.getdoc(cls) if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(") else None
        if text and not typing.is_typeddict(cls):
            told["description"] = text
        if required:
            told["required"] = required
        return told

    def _enum(self, cls: type) -> dict[str, Any]:
        values = [_plain(member.value) for member in cls]  # type: ignore[attr-defined]
        kinds = {type(value) for value in values}
        kind = FORMATS.get(kinds.pop(), {}) if len(kinds) == 1 else {}
        return {**kind, "enum": values}

    def _pydantic(self, cls: type) -> dict[str, Any]:
        schema: dict[str, Any] = cls.model_json_schema(ref_template="#/components/schemas/{model}")  # type: ignore[attr-defined]
        for name, other in schema.pop("$defs", {}).items():
            self.components.setdefault(name, other)
        return schema


def _fields_of(cls: Any, hints: Mapping[str, Any]) -> Iterator[tuple[str, bool, Any]]:
    """Name, whether it must be given, and default."""
    if dataclasses.is_dataclass(cls):
        for known in dataclasses.fields(cls):
            if known.init:
                needed = known.default is dataclasses.MISSING and known.default_factory is dataclasses.MISSING
                yield known.name, needed, None if needed else known.default
    elif typing.is_typeddict(cls):
        for name in hints:
            yield name, name in cls.__required_keys__, None
    elif hasattr(cls, "__struct_fields__"):
        fields, defaults = cls.__struct_fields__, cls.__struct_defaults__
        first = len(fields) - len(defaults)
        for number, name in enumerate(fields):
            yield name, number < first, defaults[number - first] if number >= first else None
    else:
        for name in cls._fields:
            yield name, name not in cls._field_defaults, cls._field_defaults.get(name)


def _unrequired(annotation: Any) -> Any:
    """The type within `Required[…]` and `NotRequired[…]`."""
    origin = get_origin(annotation)
    if getattr(origin, "_name", None) in ("Required", "NotRequired"):
        return get_args(annotation)[0]
    return annotation
