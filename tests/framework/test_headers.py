"""`Headers`, and what an answer's head says."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from framework.caller import Caller
from trivet import App, Headers, Response


def test_fields_have_names_in_any_case_and_keep_their_order() -> None:
    fields = Headers({"X-A": 1, "Link": ["<a>", "<b>"]})
    fields["x-a"] = "two"
    fields.add("Vary", "Cookie")
    fields.vary("Accept", "cookie")
    assert fields.items() == [("Link", "<a>"), ("Link", "<b>"), ("x-a", "two"), ("Vary", "Cookie, Accept")]
    assert (fields["LINK"], fields.all("link"), fields.get("none"), len(fields)) == (
        "<a>",
        ["<a>", "<b>"],
        None,
        4,
    )
    assert dict(fields) == {"Link": "<a>", "x-a": "two", "Vary": "Cookie, Accept"}
    assert list(fields) == fields.keys() == ["Link", "x-a", "Vary"]
    assert "X-a" in fields
    assert "Host" not in fields
    assert 1 not in fields
    assert fields.setdefault("X-A", "three") == "two"
    assert fields.setdefault("Age", 3) == "3"
    assert fields.pop("Link") == "<a>"
    assert fields.pop("Link", "gone") == "gone"
    fields.update([("X-A", "four"), ("X-A", "five")])
    assert fields.all("x-a") == ["four", "five"]
    same = Headers([(name.lower(), value) for name, value in fields.items()])
    assert same == fields
    assert fields.copy() == fields
    assert fields != Headers()
    assert fields != "text"
    assert pickle.loads(pickle.dumps(fields)) == fields
    assert copy.deepcopy(fields) == fields
    del fields["vary"]
    for missing in (lambda: fields["Vary"], lambda: fields.__delitem__("Vary")):
        with pytest.raises(KeyError, match="Vary"):
            missing()
    with pytest.raises(TypeError):
        hash(fields)
    with pytest.raises(ValueError, match="belongs to the server"):
        fields["Connection"] = "close"


def test_a_value_that_changes_its_headers_while_it_is_written() -> None:
    class Eager:
        def __str__(self) -> str:
            fields.add("X-B", "b")
            return "a"

    fields = Headers()
    fields["X-A"] = Eager()
    fields.setdefault("X-C", Eager())
    assert fields.items() == [("X-B", "b"), ("X-A", "a"), ("X-B", "b"), ("X-C", "a")]


def test_fields_of_a_response_may_be_put_in_their_place_as_a_dict() -> None:
    app = App()

    @app.get("/")
    def handler() -> Response:
        response = Response("x")
        response.headers = {"X-A": "1", "Content-Type": "text/plain"}  # type: ignore[assignment]
        return response

    answer = Caller(app).get("/")
    assert (answer["X-A"], answer["Content-Type"]) == ("1", "text/plain")


class OwnHeaders(Headers):
    pass


def test_fields_may_be_pairs_of_any_kind_and_copies_keep_their_class() -> None:
    assert Headers([["X-A", 1]]).items() == [("X-A", "1")]  # type: ignore[arg-type,list-item]
    assert type(OwnHeaders({"X-A": "1"}).copy()) is OwnHeaders
    assert Headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2")]).keys() == ["Set-Cookie"]
    for wrong in (["X-A"], [("X-A",)], [("X-A", "1", "2")], [1]):
        with pytest.raises(TypeError, match="pairs of a name and a value"):
            Headers(wrong)  # type: ignore[arg-type]


def test_an_answer_that_hands_out_its_own_fields_is_no_crash() -> None:
    class Shared(Response):
        __slots__ = ()

        def _copy(self) -> Response:
            return self

    app = App()
    kept = Shared("x", headers={"X-A": "1"})

    @app.get("/")
    def handler() -> Any:
        return kept, 201, kept.headers

    assert Caller(app).get("/")["X-A"] == "1"


def test_head_may_tell_a_length_that_get_would_have() -> None:
    app = App()

    @app.head("/")
    def handler() -> Any:
        return "", 200, {"Content-Length": "50"}

    assert Caller(app).head("/")["Content-Length"] == "50"


def test_a_mounted_app_may_leave_the_length_of_head_untold() -> None:
    def old(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]

    app = App()
    app.mount("/old", old)
    assert Caller(app).get("/old/")["Content-Length"] == "5"
    assert Caller(app).head("/old/").all("Content-Length") == []
