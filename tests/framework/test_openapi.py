"""`trivet.openapi`: a document from signatures, and that it is one."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pytest
from trivet import App, Body, Form, Query, Request, Response, Session, Upload
from trivet.openapi import Schemas, of, parts_of

KINDS = {"null", "boolean", "object", "array", "number", "string", "integer"}


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Tag:
    """A word."""

    name: str


@dataclass
class Todo:
    title: str
    done: bool = False
    due: datetime.date | None = None
    tags: list[Tag] = field(default_factory=list)
    color: Color = Color.RED
    parent: Todo | None = None


class Place(TypedDict, total=False):
    city: str
    at: tuple[float, float]


class Pair(NamedTuple):
    left: int
    right: int = 0


def made() -> App:
    app = App(secret="a key that only tests know")

    @app.get("/")
    def index() -> str:
        return "hi"

    @app.get("/todos/{id:int}")
    def todo(id: int) -> Todo | None:
        """One of them.

        By its number.
        """
        return None

    @app.post("/todos")
    def add(todo: Body[Todo]) -> tuple[Todo, Literal[201]]:
        return todo, 201

    @app.get("/search")
    def search(
        q: str,
        page: int = 1,
        tag: list[str] = [],  # noqa: B006 - each request has its own
        since: datetime.date | None = None,
        source: Annotated[str, Query("from")] = "all",
        color: Color = Color.BLUE,
        order: Literal["up", "down"] = "up",
    ) -> list[Todo]:
        return []

    @app.post("/profile")
    def profile(
        req: Request, session: Session, name: Form[str], picture: Upload, age: Form[int | None] = None
    ) -> None:
        return None

    @app.post("/names")
    def names(name: Form[list[str]]) -> dict[str, int]:
        return {}

    @app.get("/files/{name:path}")
    def files(name: str) -> Response:
        return Response()

    @app.route("/re/{x:re([a-z]{2}\\.(?:png|gif))}/{when:date}/{id:uuid}", methods=["GET", "DELETE"])
    def several(x: str, when: datetime.date, id: uuid.UUID):  # type: ignore[no-untyped-def]
        return {}

    @app.put("/raw")
    def raw(data: Body[bytes]) -> bytes:
        return data

    group = app.group("/admin")

    @group.get("/todo")
    def todo_of_admin() -> Place:
        return {}

    app.static("/static", ".")
    return app


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made_of: dict[str, Any] = of(made(), title="Todos", version="1.2", servers=["https://todo.example"])
    return made_of


def schemas_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("schema", "items") and isinstance(value, dict):
                yield value
            if key in ("properties", "schemas"):
                yield from (one for one in value.values() if isinstance(one, dict))
            yield from schemas_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas_in(value)


def test_it_is_a_document_of_openapi(document: dict[str, Any]) -> None:
    """What the specification demands of its structure (OpenAPI 3.1.1, sections 4.8.1 to 4.8.24)."""
    assert json.loads(json.dumps(document)) == document
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert {"title", "version"} <= document["info"].keys()
    assert document.keys() <= {"openapi", "info", "servers", "paths", "components"}
    ids = []
    for path, item in document["paths"].items():
        assert path.startswith("/")
        assert item.keys() <= {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
        for operation in item.values():
            ids.append(operation["operationId"])
            parameters = operation.get("parameters", [])
            places = [(p["name"], p["in"]) for p in parameters]
            assert len(set(places)) == len(places)
            assert {name for name, where in places if where == "path"} == set(re.findall(r"{([^}]+)}", path))
            assert all(p["required"] is True for p in parameters if p["in"] == "path")
            assert all("schema" in p for p in parameters)
            assert operation["responses"]
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d|default", status)
                assert response["description"]
            for content in [operation.get("requestBody", {"content": {"a/b": {}}})["content"]]:
                assert all("/" in kind for kind in content)
    assert len(set(ids)) == len(ids)
    known = document["components"]["schemas"]
    for schema in schemas_in(document):
        kinds = schema.get("type", [])
        assert set([kinds] if isinstance(kinds, str) else kinds) <= KINDS, schema
        if "$ref" in schema:
            assert schema["$ref"].removeprefix("#/components/schemas/") in known
        assert (
            set(schema.get("required", [])) <= schema.get("properties", schema.get("required", {})).keys()
            if "properties" in schema
            else "required" not in schema
        )


def test_parameters_are_as_they_are_read(document: dict[str, Any]) -> None:
    told = document["paths"]["/search"]["get"]["parameters"]
    assert told == [
        {"name": "q", "in": "query", "schema": {"type": "string"}, "required": True},
        {"name": "page", "in": "query", "schema": {"type": "integer", "default": 1}},
        {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "since", "in": "query", "schema": {"type": "string", "format": "date"}},
        {"name": "from", "in": "query", "schema": {"type": "string", "default": "all"}},
        {"name": "color", "in": "query", "schema": {"$ref": "#/components/schemas/Color"}},
        {"name": "order", "in": "query", "schema": {"enum": ["up", "down"], "default": "up"}},
    ]
    path = "/re/{x}/{when}/{id}"
    assert document["paths"][path].keys() == {"get", "delete"}
    assert [p["schema"] for p in document["paths"][path]["get"]["parameters"]] == [
        {"type": "string", "pattern": "^(?:[a-z]{2}\\.(?:png|gif))$"},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "uuid"},
    ]


def test_bodies_and_forms(document: dict[str, Any]) -> None:
    body = document["paths"]["/todos"]["post"]["requestBody"]
    assert body == {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Todo"}}},
        "required": True,
    }
    form = document["paths"]["/profile"]["post"]["requestBody"]["content"]
    assert form.keys() == {"multipart/form-data"}
    schema = form["multipart/form-data"]["schema"]
    assert schema["properties"]["picture"] == {
        "type": "string",
        "contentMediaType": "application/octet-stream",
    }
    assert schema["properties"]["age"] == {"type": "integer"}
    assert schema["required"] == ["name", "picture"]
    form = document["paths"]["/names"]["post"]["requestBody"]["content"]
    assert form["application/x-www-form-urlencoded"]["schema"]["properties"] == {
        "name": {"type": "array", "items": {"type": "string"}}
    }
    assert document["paths"]["/raw"]["put"]["requestBody"]["content"].keys() == {"application/octet-stream"}


def test_answers_are_told_by_what_is_returned(document: dict[str, Any]) -> None:
    def answers(path: str, method: str = "get") -> dict[str, Any]:
        told: dict[str, Any] = document["paths"][path][method]["responses"]
        return told

    assert answers("/")["200"]["content"] == {"text/html": {"schema": {"type": "string"}}}
    assert answers("/todos/{id}").keys() == {"200", "204", "400"}
    assert answers("/todos", "post")["201"]["content"].keys() == {"application/json"}
    assert "422" in answers("/todos", "post")
    assert answers("/profile", "post").keys() == {"204", "400"}
    assert "content" not in answers("/files/{name}")["default"]
    assert answers("/search")["200"]["content"]["application/json"]["schema"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Todo"},
    }


def test_docstrings_names_and_groups(document: dict[str, Any]) -> None:
    one = document["paths"]["/todos/{id}"]["get"]
    assert (one["summary"], one["description"]) == ("One of them.", "By its number.")
    assert document["paths"]["/admin/todo"]["get"]["tags"] == ["admin"]
    assert "/static/{path}" not in document["paths"]


def test_classes_are_components(document: dict[str, Any]) -> None:
    known = document["components"]["schemas"]
    assert known["Color"] == {"type": "string", "enum": ["red", "blue"]}
    assert known["Tag"] == {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "description": "A word.",
        "required": ["name"],
    }
    todo = known["Todo"]
    assert todo["required"] == ["title"]
    assert todo["properties"]["done"] == {"type": "boolean", "default": False}
    assert todo["properties"]["due"] == {"type": ["string", "null"], "format": "date"}
    assert todo["properties"]["parent"] == {
        "anyOf": [{"$ref": "#/components/schemas/Todo"}, {"type": "null"}]
    }


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (decimal.Decimal, {"type": "string", "format": "decimal"}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (set[int], {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Any, {}),
        (object, {}),
    ],
)
def test_types_have_schemas(annotation: Any, schema: dict[str, Any]) -> None:
    assert Schemas().of(annotation) == schema


def test_two_classes_of_one_name_are_two_components() -> None:
    def another() -> type:
        @dataclass
        class Tag:
            other: int

        return Tag

    schemas = Schemas()
    first, second = schemas.of(Tag), schemas.of(another())
    assert first != second
    assert len(schemas.components) == 2
    assert schemas.of(Pair) == {"$ref": "#/components/schemas/Pair"}
    assert schemas.components["Pair"]["required"] == ["left"]
    schemas.of(Place)
    assert "required" not in schemas.components["Place"]


def test_paths_that_differ_in_names_alone_are_one() -> None:
    app = App()
    app.get("/a/{x:int}")(lambda x: "")
    app.post("/a/{y}")(lambda y: "")
    app.get("/a/{z}")(lambda z: "")
    paths = of(app)["paths"]
    assert paths.keys() == {"/a/{x}"}
    assert [paths["/a/{x}"][m]["parameters"][0]["name"] for m in ("get", "post")] == ["x", "x"]
    assert paths["/a/{x}"]["get"]["parameters"][0]["schema"] == {"type": "integer"}


def test_templates_are_read_with_the_braces_of_expressions() -> None:
    assert parts_of("/a/{x:re([a-z]{2}\\})}.png/{y}") == (
        "/a/{x}.png/{y}",
        {"x": "re([a-z]{2}\\})", "y": "str"},
    )
