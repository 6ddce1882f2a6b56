"""Numbers that a stranger sends: what a database or `float` would choke on is refused, and is never 500."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from framework.drive import ask_wsgi
from trivet import App, Body, Form, Request, Router, StartError
from trivet.errors import NotFound

LEAST, MOST = -(2**63), 2**63 - 1
BEYOND = [str(MOST + 1), str(LEAST - 1), "9" * 30, "-" + "9" * 4300, "9" * 4301, "9" * 20_000]


@dataclass
class Item:
    id: int
    more: list[int] | None = None
    weight: float = 0.0


def numbers() -> App:
    app = App()

    @app.get("/path/{id:int}")
    def of_path(id: int) -> Any:
        return {"id": id}

    @app.get("/text/{id}")
    def of_text(id: int) -> Any:
        return {"id": id}

    @app.get("/query")
    def of_query(n: int = 0, many: list[int] = [], x: float = 0.0, d: Decimal = Decimal(0)) -> Any:  # noqa: B006
        return {"n": n, "many": many, "x": x, "d": d}

    @app.post("/form")
    def of_form(n: Form[int]) -> Any:
        return {"n": n}

    @app.post("/item")
    def of_item(item: Body[Item]) -> Any:
        return item

    @app.post("/counts")
    def of_counts(counts: Body[dict[str, int]]) -> Any:
        return counts

    @app.post("/any")
    def of_any(data: Body[dict]) -> Any:  # type: ignore[type-arg]
        return {"n": str(data["n"])}

    return app


@pytest.mark.parametrize("number", [LEAST, -(10**18), -1, 0, 10**18, MOST])
def test_an_int_of_64_bits_comes_as_it_is(number: int) -> None:
    app = numbers()
    for target in (f"/path/{number}", f"/text/{number}"):
        assert ask_wsgi(app, target).json == {"id": number}
    answer = ask_wsgi(app, f"/query?n={number}&many={number}")
    assert (answer.json["n"], answer.json["many"]) == (number, [number])
    assert ask_wsgi(app, "/form", "POST", form={"n": number}).json == {"n": number}
    assert ask_wsgi(app, "/item", "POST", data={"id": number}).json["id"] == number
    assert ask_wsgi(app, "/counts", "POST", data={"a": number}).json == {"a": number}


@pytest.mark.parametrize("digits", BEYOND, ids=lambda digits: str(len(digits)))
def test_a_larger_one_is_refused(digits: str) -> None:
    app = numbers()
    for target in (f"/path/{digits}", f"/text/{digits}"):
        assert ask_wsgi(app, target).status == 404
    for name in ("n", "many"):
        answer = ask_wsgi(app, f"/query?{name}={digits}")
        assert (answer.status, f"the query parameter `{name}` is beyond 64 bits" in answer.text) == (
            400,
            True,
        )
    answer = ask_wsgi(app, "/form", "POST", form={"n": digits})
    assert (answer.status, "the form field `n` is beyond 64 bits" in answer.text) == (400, True)
    fields = {"Content-Type": "application/json"}
    for path, body in [
        ("/item", f'{{"id": {digits}}}'),
        ("/item", f'{{"id": 1, "more": [{digits}]}}'),
        ("/counts", f'{{"a": {digits}}}'),
    ]:
        answer = ask_wsgi(app, path, "POST", fields=fields, body=body.encode())
        # What Python itself does not read (more than 4,300 digits) is no JSON to us.
        assert answer.status == (422 if len(digits.lstrip("-")) <= 4300 else 400), answer.text
        if answer.status == 422:
            assert "is beyond 64 bits" in answer.text


def test_json_without_a_declared_type_is_as_json_gives_it() -> None:
    answer = ask_wsgi(numbers(), "/any", "POST", data={"n": 10**30})
    assert answer.json == {"n": str(10**30)}
    fields = {"Content-Type": "application/json"}
    long = b'{"n": ' + b"9" * 4301 + b"}"
    assert ask_wsgi(numbers(), "/any", "POST", fields=fields, body=long).status == 400


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "inf", "-inf", "Infinity", "-Infinity", "1e999", "-1e999", "1_0"]
)
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    app = numbers()
    for name in ("x", "d") if "e999" not in text else ("x",):
        assert ask_wsgi(app, f"/query?{name}={text}").status == 400, name
    if text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999"):
        body = f'{{"id": 1, "weight": {text}}}'.encode()
        answer = ask_wsgi(app, "/item", "POST", fields={"Content-Type": "application/json"}, body=body)
        assert answer.status in (400, 422), answer.text
    assert ask_wsgi(app, "/query?d=1e99999999999999999999").status == 400


def test_a_longer_number_is_a_text_for_other_routes() -> None:
    app = App()
    app.get("/{id:int}")(lambda id: f"number {id}")
    app.get("/{name}")(lambda name: f"name {name}")
    assert ask_wsgi(app, f"/{MOST}").text == f"number {MOST}"
    assert ask_wsgi(app, f"/{MOST + 1}").text == f"name {MOST + 1}"


def test_patterns_see_an_int_as_the_router_does() -> None:
    ran: list[str] = []

    def app_with(pattern: str, *templates: str) -> App:
        app = App()
        for template in templates:
            app.get(template)(lambda: "handler")
        app.intercept(pattern)(lambda: ran.append(pattern))
        return app

    # The route never gets it: nothing is left for the pattern, which the start says.
    with pytest.raises(StartError, match="matches no route"):
        App.freeze(app_with(f"/x/{MOST + 1}/*", "/x/{id:int}"))
    app = app_with(f"/x/{MOST + 1}/*", "/x/{id:int}", "/x/{name}")
    assert (ask_wsgi(app, f"/x/{MOST + 1}").text, ran) == ("handler", [f"/x/{MOST + 1}/*"])
    ran.clear()
    assert (ask_wsgi(app, f"/x/{MOST}").text, ran) == ("handler", [])
    app = app_with("/x/*", "/x/{id:int}")
    assert (ask_wsgi(app, f"/x/{MOST + 1}").status, ran) == (404, ["/x/*"])


def test_a_pattern_that_takes_an_int_refuses_a_longer_one() -> None:
    app = App()
    app.get("/projects/{project}/plan")(lambda project: project)
    seen: list[int] = []

    @app.intercept("/projects/{project}/*")
    def member(project: int) -> None:
        seen.append(project)

    assert ask_wsgi(app, f"/projects/{MOST}/plan").status == 200
    assert ask_wsgi(app, f"/projects/{MOST + 1}/plan").status == 404
    assert ask_wsgi(app, f"/projects/{'9' * 5000}/none").status == 404
    assert seen == [MOST]


def test_the_routes_own_url_is_refused_as_its_path_is() -> None:
    app = numbers()
    assert app.url("of_path", id=MOST) == f"/path/{MOST}"
    with pytest.raises(ValueError, match="64 bits"):
        app.url("of_path", id=MOST + 1)


def test_the_toolkits_router_has_the_same_ints() -> None:
    router = Router()
    router.add("/{id:int}", "page")

    def environ(number: int) -> dict[str, Any]:
        return {"REQUEST_METHOD": "GET", "PATH_INFO": f"/{number}"}

    assert router.find(environ(MOST)) == ("page", {"id": MOST})
    with pytest.raises(NotFound):
        router.find(environ(MOST + 1))


def test_json_that_goes_out_keeps_large_numbers() -> None:
    app = App()

    @app.get("/")
    def large(req: Request) -> Any:
        return {"n": 10**30}

    assert json.loads(ask_wsgi(app).body) == {"n": 10**30}
