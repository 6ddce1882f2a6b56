"""Arguments are planned once: from a function's signature to what `_web` evaluates for each request."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import inspect
import json
import math
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from ._load import native
from .errors import BadRequest, HTTPError, UnprocessableContent
from .markers import BodyMarker, FormMarker, Query
from .session import Session
from .values import Upload

if TYPE_CHECKING:
    from . import _web
else:
    _web = native("_web")

#: What `_web.Plan` reads: source, place, key, kind, many, empty is None, required, default, name if by name
# only.
Told = tuple[str, int, str, Any, bool, bool, bool, Any, "str | None"]

REQUEST_NAMES = ("req", "request")
SCALARS = "str, int, float, bool, datetime, date, time, UUID, Decimal, an Enum or a Literal"


#: An integer of a request has 64 bits: what a database would refuse by an exception is refused before.
INT_LEAST, INT_MOST = -(2**63), 2**63 - 1


class PlanError(TypeError):
    """A signature that cannot be planned. The app does not start."""


@dataclass(frozen=True)
class Parameter:
    """An argument of a handler, as it was planned.

    `source`: `path`, `query`, `form`, `upload`, `body`, `request`, `session` or `provided`. `key` is its
    name in the
    request, `annotation` its type without markers.
    """

    name: str
    source: str
    key: str
    annotation: Any
    many: bool
    required: bool
    default: Any = None


def describe(function: Callable[..., Any]) -> str:
    """`module.name (file.py:12)` for messages."""
    inner = inspect.unwrap(function)
    name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', repr(inner))}"
    code = getattr(inner, "__code__", None)
    return f"`{name}` ({code.co_filename}:{code.co_firstlineno})" if code is not None else f"`{name}`"


def hints_of(function: Callable[..., Any], names: Mapping[str, Any] | None) -> dict[str, Any]:
    """Resolved annotations. `names`: what the frame that registered the function could see."""
    target: Any = function
    while hasattr(target, "func") and hasattr(target, "args"):  # functools.partial
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target) and callable(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, localns=dict(names) if names else None, include_extras=True)
    except Exception as error:
        raise PlanError(
            f"an annotation of {describe(function)} cannot be resolved: {error}\n"
            "hint: import the type where the function is defined, not under `if TYPE_CHECKING`"
        ) from error


def arguments(
    function: Callable[..., Any],
    names: Mapping[str, Any] | None,
    path: Sequence[tuple[str, str]],
    provided: Callable[[Any], int | None],
    *,
    injected_only: bool = False,
    pattern: bool = False,
    socket: bool = False,
) -> tuple[list[Told], list[Parameter]]:
    """The plan of a function.

    `path`: name and converter of each of the path's parameters (of a pattern's captures if `pattern`).
    `provided`
    gives the place of a type's provider. `injected_only`: nothing from the query (interceptors, providers).
    Raises `PlanError`.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{describe(function)} has no signature that can be read: {error}") from error
    hints = hints_of(function, names)
    places = {name: (place, converter) for place, (name, converter) in enumerate(path)}
    told: list[Told] = []
    parameters: list[Parameter] = []
    for name, parameter in signature.parameters.items():
        where = f"parameter `{name}` of {describe(function)}"
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise PlanError(
                f"`*{name}` of {describe(function)} has no names to plan by\nhint: write each parameter"
            )
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise PlanError(
                f"`**{name}` of {describe(function)} would take anything\nhint: write each parameter"
            )
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        by_name = name if parameter.kind is inspect.Parameter.KEYWORD_ONLY else None
        annotation = hints.get(name, inspect.Parameter.empty)
        bare, marks = unmarked(annotation)
        inner, optional = without_none(bare)
        key = next((mark.name for mark in marks if isinstance(mark, Query)), name)

        def add(
            source: str,
            annotation: Any,
            *,
            place: int = 0,
            kind: Any = "str",
            many: bool = False,
            empty_is_none: bool = False,
            name: str = name,
            key: str = key,
            required: bool = required,
            default: Any = default,
            by_name: str | None = by_name,
        ) -> None:
            told.append((source, place, key, kind, many, empty_is_none, required, default, by_name))
            parameters.append(Parameter(name, source, key, annotation, many, required, default))

        if name in places:
            place, converter = places[name]
            if annotation is not inspect.Parameter.empty and (
                marks or inner in (_web.Request, Session, Upload) or provided(inner) is not None
            ):
                raise PlanError(
                    f"{where} is in the path and annotated as something else\n"
                    "hint: give one of them another name"
                )
            kind = "same"
            if annotation is not inspect.Parameter.empty and (pattern or not same_kind(converter, inner)):
                kind = scalar(inner)
                if kind is None:
                    raise PlanError(f"{where} is in the path: it can be {SCALARS}, not `{shown(inner)}`")
            add("path", inner if annotation is not inspect.Parameter.empty else str, place=place, kind=kind)
        elif (annotation is inspect.Parameter.empty and name in REQUEST_NAMES) or inner is _web.Request:
            add("request", _web.Request)
        elif inner is Session:
            add("session", Session)
        elif socket and (name == "ws" or getattr(inner, "__name__", "") == "WebSocket"):
            add("environ", inner, key="trivet.websocket")
        elif annotation is inspect.Parameter.empty:
            if not required and injected_only:
                continue
            raise PlanError(
                f"{where} has no annotation and is not in the path\n"
                f"hint: `{name}: str` for a query parameter, or correct the name in the path"
            )
        elif (place_of := provided(inner)) is not None:
            add("provided", inner, place=place_of)
        elif injected_only:
            raise PlanError(
                f"{where} is `{shown(bare)}`, for which there is no provider\n"
                f"hint: `@app.provide({shown(inner)})`, or take `req` and look it up"
            )
        elif any(isinstance(mark, BodyMarker) for mark in marks):
            add("body", bare, kind=body_decoder(bare, where))
        elif inner is Upload or (get_origin(inner) is list and get_args(inner) == (Upload,)):
            many = inner is not Upload
            if not required and default is not None and not many:
                raise PlanError(f"{where}: the default of an upload is None")
            if optional and required:
                # `picture: Upload | None` says itself that it may be missing.
                required, default = False, None
            add("upload", Upload, many=many, required=required, default=default)
        else:
            many = get_origin(inner) is list or inner is list
            item = (get_args(inner) or (str,))[0] if many else inner
            item, _ = without_none(item)
            kind = scalar(item)
            if kind is None:
                raise PlanError(
                    f"{where} is `{shown(bare)}`: from a request come {SCALARS}, "
                    "Optional and lists of these\n"
                    f"hint: `Body[{shown(inner)}]` for the request's body, or `@app.provide({shown(inner)})`"
                )
            source = "form" if any(isinstance(mark, FormMarker) for mark in marks) else "query"
            if many and not required and default is not None:
                default = list(default)
            if many and required:
                required, default = False, []
            if optional and required:
                required, default = False, None
            add(
                source,
                item,
                kind=kind,
                many=many,
                empty_is_none=optional and item is not str,
                required=required,
                default=default,
            )
    return told, parameters


def unmarked(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type within `Annotated`, and what it is annotated with."""
    marks: tuple[Any, ...] = ()
    while get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        marks += tuple(more)
        annotation = inner
    # `Form[str] | None`
    inner, optional = without_none(annotation)
    if optional and get_origin(inner) is Annotated:
        bare, more_marks = unmarked(inner)
        return typing.Optional[bare], marks + more_marks  # noqa: UP045 - built at run time
    # marks within a marker mean nothing to anybody
    return annotation, tuple(mark for mark in marks if isinstance(mark, (BodyMarker, FormMarker, Query)))


def without_none(annotation: Any) -> tuple[Any, bool]:
    """`X` and True for `X | None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = tuple(arg for arg in get_args(annotation) if arg is not type(None))
        if len(rest) == 1 and len(rest) != len(get_args(annotation)):
            return rest[0], True
    return annotation, False


def shown(annotation: Any) -> str:
    """A type as it is written."""
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")


#: What a converter of the router gives.
GIVES = {
    "int": int,
    "float": float,
    "uuid": uuid.UUID,
    "date": datetime.date,
    "str": str,
    "path": str,
    "re": str,
}


def same_kind(converter: str, annotation: Any) -> bool:
    """Whether the converter already gives what the annotation says. Converters of the app give what they
    give.
    """
    return converter not in GIVES or GIVES[converter] is annotation


def _expecting(text: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    def mark(function: Callable[[str], Any]) -> Callable[[str], Any]:
        function.expects = text  # type: ignore[attr-defined]
        return function

    return mark


@_expecting("a date as `2026-01-31`")
def _date(text: str) -> datetime.date:
    if len(text) != 10:
        raise ValueError(text)
    return datetime.date.fromisoformat(text)


@_expecting("a time as `13:45` or `13:45:10`")
def _time(text: str) -> datetime.time:
    return datetime.time.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))


@_expecting("a time as `2026-01-31T13:45:10Z`")
def _datetime(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))


@_expecting("a UUID")
def _uuid(text: str) -> uuid.UUID:
    if len(text) != 36:
        raise ValueError(text)
    return uuid.UUID(text)


@_expecting("a decimal number")
def _decimal(text: str) -> Decimal:
    if not text.isascii() or "_" in text or text != text.strip():
        raise ValueError(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not number.is_finite():
        raise ValueError(text)
    return number


KINDS: dict[Any, Any] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    datetime.date: _date,
    datetime.time: _time,
    datetime.datetime: _datetime,
    uuid.UUID: _uuid,
    Decimal: _decimal,
}


def scalar(annotation: Any) -> Any:
    """What makes a value of the type from a text, or None if a text cannot be one."""
    try:
        known = KINDS.get(annotation)
    except TypeError:
        known = None
    if known is not None:
        return known
    if get_origin(annotation) is Literal:
        return _choice({str(value): value for value in get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _choice({str(member.value): member for member in annotation})
    return None


def _choice(values: dict[str, Any]) -> Callable[[str], Any]:
    @_expecting("one of " + ", ".join(f"`{text}`" for text in values))
    def choose(text: str) -> Any:
        try:
            return values[text]
        except KeyError:
            raise ValueError(text) from None

    return choose


def body_decoder(annotation: Any, where: str) -> Callable[[_web.Request], Any]:
    """A function of the request that gives its body as the type."""
    if annotation is bytes:
        return lambda request: request.body
    if annotation is str:
        return _text
    if hasattr(annotation, "model_validate"):
        return _pydantic(annotation)
    if hasattr(annotation, "__struct_fields__"):
        return _msgspec(annotation)
    build = builder(annotation, where)

    def decode(request: _web.Request) -> Any:
        try:
            return build(request.json(), "")
        except Misfit as error:
            raise UnprocessableContent(str(error)) from None

    return decode


def _text(request: _web.Request) -> str:
    try:
        return request.body.decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None


def _pydantic(model: Any) -> Callable[[_web.Request], Any]:
    def decode(request: _web.Request) -> Any:
        data = request.json()
        try:
            return model.model_validate(data)
        except ValueError as error:
            raise UnprocessableContent(str(error)) from None

    return decode


def _msgspec(struct: Any) -> Callable[[_web.Request], Any]:
    import msgspec  # type: ignore[import-not-found,unused-ignore]

    decoder = msgspec.convert

    def decode(request: _web.Request) -> Any:
        data = request.json()
        try:
            return decoder(data, struct)
        except msgspec.ValidationError as error:
            raise UnprocessableContent(str(error)) from None

    return decode


class Misfit(ValueError):
    """JSON of another shape than wanted."""


Builder = Callable[[Any, str], Any]


def _misfit(path: str, wanted: str, value: Any) -> Misfit:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    got = kinds.get(type(value), "a number")
    return Misfit(f"`{path.lstrip('.') or 'the body'}` should be {wanted}, not {got}")


def builder(annotation: Any, where: str, _open: tuple[Any, ...] = ()) -> Builder:
    """Makes values of a type from JSON: dataclasses, typed dicts as they are, lists, dicts, scalars,
    unions with None.
    """
    annotation, _ = unmarked(annotation)
    inner, optional = without_none(annotation)
    if optional:
        build = builder(inner, where, _open)
        return lambda value, path: None if value is None else build(value, path)
    if annotation in (Any, object):
        return lambda value, path: value
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is list or annotation is list:
        item = builder(args[0], where, _open) if args else builder(Any, where)

        def build_list(value: Any, path: str) -> Any:
            if not isinstance(value, list):
                raise _misfit(path, "a list", value)
            return [item(one, f"{path}[{at}]") for at, one in enumerate(value)]

        return build_list
    if origin is dict or annotation is dict or typing.is_typeddict(annotation):
        item = builder(args[1], where, _open) if args else builder(Any, where)

        def build_dict(value: Any, path: str) -> Any:
            if not isinstance(value, dict):
                raise _misfit(path, "an object", value)
            return {key: item(one, f"{path}.{key}") for key, one in value.items()}

        return build_dict
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _dataclass_builder(annotation, where, _open)
    return _scalar_builder(annotation, where)


def _scalar_builder(annotation: Any, where: str) -> Builder:
    if annotation is str:
        return _exact((str,), "a text")
    if annotation is bool:
        return _exact((bool,), "true or false")
    if annotation is int:
        whole = _exact((int,), "an integer")

        def build_int(value: Any, path: str) -> Any:
            number = whole(value, path)
            if not INT_LEAST <= number <= INT_MOST:
                raise Misfit(f"`{path.lstrip('.') or 'the body'}` is beyond 64 bits")
            return number

        return build_int
    if annotation is float:
        exact = _exact((int, float), "a number")

        def build_float(value: Any, path: str) -> Any:
            number = exact(value, path)
            try:
                result = float(number)
            except OverflowError:
                raise Misfit(f"`{path.lstrip('.')}` is too large") from None
            if not math.isfinite(result):
                raise Misfit(f"`{path.lstrip('.')}` is not a finite number")
            return result

        return build_float
    kind = scalar(annotation)
    if not callable(kind):
        raise PlanError(
            f"{where}: nothing makes `{shown(annotation)}` of JSON\nhint: use a dataclass, or `Body[dict]`"
        )
    expects = getattr(kind, "expects", shown(annotation))

    def build_text(value: Any, path: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise _misfit(path, expects, value)
        if annotation in (datetime.date, datetime.time, datetime.datetime, uuid.UUID) and not isinstance(
            value, str
        ):
            raise _misfit(path, expects, value)
        try:
            return kind(str(value))
        except (ValueError, ArithmeticError):
            raise Misfit(f"`{path.lstrip('.') or 'the body'}` should be {expects}") from None

    return build_text


def _exact(classes: tuple[type, ...], wanted: str) -> Builder:
    def build(value: Any, path: str) -> Any:
        if type(value) not in classes:
            raise _misfit(path, wanted, value)
        return value

    return build


def _dataclass_builder(annotation: type, where: str, _open: tuple[Any, ...]) -> Builder:
    fields: dict[str, tuple[Builder, bool]] = {}

    def build(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _misfit(path, "an object", value)
        given = {}
        for name, one in value.items():
            known = fields.get(name)
            if known is None:
                raise Misfit(f"`{f'{path}.{name}'.lstrip('.')}` is not known")
            given[name] = known[0](one, f"{path}.{name}")
        for name, (_, required) in fields.items():
            if required and name not in given:
                raise Misfit(f"`{f'{path}.{name}'.lstrip('.')}` is missing")
        try:
            return annotation(**given)
        except HTTPError:
            raise
        except ValueError as error:  # its own __post_init__ has looked
            raise Misfit(str(error)) from None

    for known, known_build in _open:
        if known is annotation:
            return lambda value, path: known_build(value, path)
    hints = typing.get_type_hints(annotation, include_extras=True)
    for field in dataclasses.fields(annotation):
        if not field.init:
            continue
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        more = (*_open, (annotation, build))
        fields[field.name] = (builder(hints[field.name], f"{where}, field `{field.name}`", more), required)
    return build


def shape(cls: type) -> tuple[str, ...] | str | None:
    """How objects of a class are written as JSON: attribute names, a method's name, `str`, `value`, or
    None.
    """
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    fields = getattr(cls, "__struct_fields__", None)
    if fields is not None:
        return tuple(fields)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return None
    if issubclass(cls, enum.Enum):
        return "value"
    if issubclass(cls, (datetime.date, datetime.time)):
        return "isoformat"
    if issubclass(cls, (uuid.UUID, Decimal)):
        return "str"
    if hasattr(cls, "model_dump"):
        return "model_dump"
    return None


def jsonable(value: Any) -> Any:
    """Something JSON knows in the place of what it does not. Raises `TypeError`."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        return dict(zip(fields, value, strict=True)) if fields else list(value)
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - rows iterate over values
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    raise TypeError(
        f"`{type(value).__name__}` cannot be written as JSON\n"
        "hint: `App(json=function)` can make something of it"
    )


def _constant(name: str) -> Any:
    raise ValueError(f"JSON has no `{name}`")


# Made once: `json.loads` guesses the encoding and makes a decoder each time, 6 µs where this is 1.
_decode = json.JSONDecoder(parse_constant=_constant).decode


def loads(data: bytes) -> Any:
    """JSON (RFC 8259: UTF-8) as Python objects. `ValueError` for what is none, NaN and infinity among it."""
    return _decode(data.decode())
