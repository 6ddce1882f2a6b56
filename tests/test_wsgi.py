"""WSGI (PEP 3333) as an application sees it: rules W1 to W52, each test named by its rule."""

import contextlib
import json
import re
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from conftest import Start
from support import procs
from support.http import Cut, Response, chunked, request
from support.poll import until
from support.server import Server

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(start_shared: Start, shared_transport: str) -> Server:
    return start_shared("rules", "--transport", shared_transport)


@pytest.fixture(scope="module")
def streaming(start_shared: Start, shared_transport: str) -> Server:
    return start_shared("rules", "--transport", shared_transport, "--no-request-buffering", "--threads", "2")


@pytest.fixture(params=["plain", "validated"])
def manner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def path(name: str, manner: str = "plain", **query: object) -> str:
    return f"/{manner}/{name}?{urlencode(query, encoding='latin-1')}"


def call(server: Server, name: str, manner: str = "plain", method: str = "GET", **query: object) -> Response:
    """Calls an app; the connection must be of use afterwards if it says so, and the validator content."""
    before = len(server.log())
    with server.connect() as connection:
        response = connection.request(method, path(name, manner, **query))
        if response.says_close:
            connection.assert_closed()
        else:
            assert connection.request("GET", "/plain/hello").body == b"hello"
    if manner == "validated":
        assert "AssertionError" not in server.log()[before:]
    return response


def cut(server: Server, name: str, **query: object) -> Cut:
    """Calls an app whose answer must not seem whole."""
    with server.connect() as connection:
        connection.send(request("GET", path(name, **query)))
        with pytest.raises(Cut) as caught:
            connection.read()
    return caught.value


def key() -> str:
    return uuid.uuid4().hex


def counts(server: Server, which: str) -> dict[str, int]:
    return call(server, "counts", key=which).json()


def closed_once(server: Server, which: str) -> None:
    until(lambda: counts(server, which)["close"] > 0, why="close() is called")
    assert counts(server, which)["close"] == 1


def note(server: Server, which: str) -> Any:
    return call(server, "note", key=which).json()


# Starting


def test_w1_start_response_may_come_with_the_first_iteration(server: Server, manner: str) -> None:
    response = call(server, "late_start", manner)
    assert (response.status, response.reason, response.body) == (200, "Late", b"late")


def test_w1_the_head_waits_for_the_first_non_empty_chunk(server: Server, manner: str) -> None:
    response = call(server, "headers_wait", manner)
    assert (response.status, response.get("x-new"), response.get("x-old")) == (502, "1", None)
    assert response.body == b"replaced"


@pytest.mark.parametrize("name", ["never_starts", "never_starts_empty", "returns_none", "not_iterable"])
def test_w2_no_proper_start_is_500(server: Server, name: str) -> None:
    response = call(server, name)
    assert response.status == 500
    assert b"nobody asked" not in response.body


def test_w3_a_second_start_is_an_assertion_error(server: Server) -> None:
    assert call(server, "starts_twice").body == b"AssertionError"


def test_w4_exc_info_replaces_all_before_the_head_is_sent(server: Server, manner: str) -> None:
    response = call(server, "replaces", manner)
    assert (response.status, response.reason) == (503, "Replaced")
    assert (response.get("x-new"), response.get("x-old")) == ("1", None)
    assert response.body == b"the other answer"


def test_w5_exc_info_after_the_head_is_raised_again_and_aborts(server: Server) -> None:
    which = key()
    error = cut(server, "starts_again_too_late", key=which)
    assert error.head is None or error.head.status == 200
    assert note(server, which) is True


def test_w6_what_is_written_precedes_the_iterable(server: Server, manner: str) -> None:
    assert call(server, "writes", manner).body == b"one two three four"


def test_w6_write_alone(server: Server, manner: str) -> None:
    assert call(server, "writes_only", manner).body == b"".join(b"%04d" % i * 1000 for i in range(100))


def test_w6_write_takes_bytes_alone(server: Server) -> None:
    which = key()
    with server.connect() as connection:
        connection.send(request("GET", path("writes_text", key=which)))
        with contextlib.suppress(Cut):
            assert connection.read().status == 500
    assert note(server, which) in ("TypeError", "AssertionError")


# Closing


@pytest.mark.parametrize("name", ["counted", "counted_single"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_w7_close_is_called_once_and_the_body_iterated_once(
    server: Server, manner: str, name: str, method: str
) -> None:
    if (name, method, manner) == ("counted_single", "HEAD", "validated"):
        pytest.skip("the validator wants no length with an unread body")
    which = key()
    assert call(server, name, manner, method, key=which).status == 200
    closed_once(server, which)
    assert counts(server, which)["iter"] <= 1


@pytest.mark.parametrize("at", [0, 1])
def test_w7_close_is_called_once_when_the_body_fails(server: Server, at: int) -> None:
    which = key()
    if at == 0:
        assert call(server, "counted_fails", key=which, at=0).status == 500
    else:
        cut(server, "counted_fails", key=which, at=1)
    closed_once(server, which)


def test_w7_close_is_called_once_when_a_chunk_is_no_bytes(server: Server) -> None:
    which = key()
    cut(server, "counted_wrong_type", key=which)
    closed_once(server, which)


def test_w7_close_is_called_once_when_start_response_never_was(server: Server) -> None:
    which = key()
    assert call(server, "counted_never_starts", key=which).status == 500
    closed_once(server, which)


@pytest.mark.parametrize("reset", [False, True])
def test_w7_close_is_called_once_when_the_client_goes(server: Server, reset: bool) -> None:
    which = key()
    with server.connect() as connection:
        connection.send(request("GET", path("counted_endless", key=which)))
        assert connection.read_head().status == 200
        if reset:
            connection.reset()
    closed_once(server, which)


def test_w7_a_close_that_fails_spoils_nothing(server: Server) -> None:
    which = key()
    with server.connect() as connection:
        assert connection.request("GET", path("close_fails", key=which)).body == b"whole"
    closed_once(server, which)
    server.wait_for_log("the app fails in close")


def test_w7_close_is_called_at_shutdown(start: Start, transport: str, tmp_path: Path) -> None:
    server = start(
        "closing", "--transport", transport, "--graceful-timeout", "5", env={"MARK": str(tmp_path / "closed")}
    )
    with server.connect() as connection:
        connection.send(request("GET", "/slow")).read_head()
        server.popen.terminate()
        response = connection.rest()
        assert response.endswith(b"0\r\n\r\n"), response
    assert server.wait() == 0
    assert (tmp_path / "closed").read_text() == "closed\n"


# Bodies


def test_w8_an_empty_chunk_ends_nothing(server: Server, manner: str) -> None:
    assert call(server, "empty_first", manner).body == b"firstsecond"


def test_w9_a_chunk_that_is_no_bytes_is_an_error(server: Server) -> None:
    assert call(server, "text_chunk").status == 500


@pytest.mark.parametrize("name", ["fails_in_the_middle", "fails_in_the_middle_late", "counted_sized_fails"])
def test_w10_a_body_that_fails_never_seems_whole(server: Server, name: str) -> None:
    before = len(server.log())
    cut(server, name)
    server.wait_for_log(r"RuntimeError: the app fails in mid-body", after=before)


def test_w10_a_failure_before_the_head_is_500_with_the_traceback_in_the_log_alone(server: Server) -> None:
    for name, text in ("fails_before", "before it starts"), ("fails_started", "after it started"):
        before = len(server.log())
        response = call(server, name)
        assert response.status == 500
        assert b"RuntimeError" not in response.body
        log = server.wait_for_log(f"RuntimeError: the app fails {text}", after=before)
        assert "Traceback (most recent call last)" in log
        assert f"/plain/{name}" in log, "the request line is in the log"


@pytest.mark.parametrize("name", ["single", "single_tuple"])
def test_w11_a_single_chunk_has_a_length(server: Server, manner: str, name: str) -> None:
    response = call(server, name, manner)
    assert response.body == b"just one"
    if manner == "plain":  # the validator makes an iterator of it, whose length nobody can know
        assert response.framing == "length"


@pytest.mark.parametrize("name", ["shorter", "shorter_generator"])
def test_w12_a_body_shorter_than_its_length_is_cut_and_logged(server: Server, name: str) -> None:
    before = len(server.log())
    cut(server, name)
    server.wait_for_log(r"(?i)content-length|shorter", after=before)


@pytest.mark.parametrize("name", ["longer", "longer_generator"])
def test_w12_a_body_longer_than_its_length_is_truncated_and_logged(server: Server, name: str) -> None:
    before = len(server.log())
    response = call(server, name)
    assert (response.get("content-length"), response.body) == ("4", b"only")
    server.wait_for_log(r"(?i)content-length|longer", after=before)


@pytest.mark.parametrize(
    "value", ["abc", "-1", "+5", "5.0", "0x5", "", "5, 5", "5;6", "99999999999999999999", "\u0661"]
)
def test_w13_an_invalid_length_from_the_app_is_500(server: Server, value: str) -> None:
    with server.connect() as connection:
        value = value if value.isascii() else quote(value)
        assert connection.request("GET", path("with_length", v=value)).status == 500


def test_w14_head_keeps_the_length_and_has_no_body(server: Server, manner: str) -> None:
    which = key()
    response = call(server, "sized", manner, "HEAD", key=which)
    assert (response.get("content-length"), response.body) == ("5", b"")
    closed_once(server, which)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", [0, 1])
def test_w15_no_body_with_204_and_304(server: Server, status: str, body: int) -> None:
    response = call(server, "with_status", v=repr(status), body=body)
    assert response.status == int(status[:3])
    assert not response.all("transfer-encoding")


def test_w15_an_informational_status_is_no_answer(server: Server) -> None:
    assert call(server, "with_status", v=repr("103 Early Hints")).status == 500


def test_w16_hop_by_hop_fields_of_the_app_are_dropped_with_one_warning(start: Start) -> None:
    server = start("rules")
    fields = [
        ("Connection", "X-Named"),
        ("Keep-Alive", "5"),
        ("Upgrade", "h2c"),
        ("Trailer", "X"),
        ("X-Kept", "1"),
    ]
    for _ in range(3):
        response = call(server, "with_fields", v=repr(fields))
        assert (response.status, response.get("x-kept")) == (200, "1")
        for name in "keep-alive", "upgrade", "trailer":
            assert response.get(name) is None
        assert response.get("connection") != "X-Named"
    lines = [line for line in server.log().splitlines() if "hop-by-hop" in line.lower()]
    assert len(lines) == 1, lines


def test_w16_transfer_encoding_from_the_app_is_500(server: Server) -> None:
    assert call(server, "with_fields", v=repr([("Transfer-Encoding", "chunked")])).status == 500


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("200 OK", 200, "OK"),
        ("200 Fine By Me", 200, "Fine By Me"),
        ("299 Own", 299, "Own"),
        ("418 I'm a teapot", 418, "I'm a teapot"),
        ("599 x", 599, "x"),
        ("200 ", 200, None),
        ("404", 404, None),
        ("200", 200, None),
    ],
)
def test_w17_a_status_keeps_its_reason(server: Server, status: str, code: int, reason: str | None) -> None:
    response = call(server, "with_status", v=repr(status))
    assert response.status == code
    assert reason is None or response.reason == reason


@pytest.mark.parametrize(
    "status",
    [
        *["", "20", "abc", "20x OK", "2000 OK", "200OK", "099 Low", "-20 OK", " 200 OK"],
        *["200 O\r\nX-Evil: 1", "200 O\nK", "200 O\0K", "200 \u2603"],
        *[200, b"200 OK", None],
    ],
    ids=repr,
)
def test_w17_a_bad_status_is_500(server: Server, status: object) -> None:
    response = call(server, "with_status", v=ascii(status))
    assert response.status == 500
    assert response.get("x-evil") is None


BAD_FIELDS = [
    [("X A", "secret-value")],
    [("X-A:", "secret-value")],
    [("", "secret-value")],
    [("X-\u00e9", "secret-value")],
    [("X-A\r\n", "secret-value")],
    [("X-A", "secret-value\r\nX-Evil: 1")],
    [("X-A", "secret-value\nX-Evil: 1")],
    [("X-A", "secret-value\r")],
    [("X-A", "secret-value\0")],
    [("X-A", "secret-value \u2603")],
    [("X-A", 5)],
    [("X-A", b"secret-value")],
    [(b"X-A", "secret-value")],
    [("X-A", None)],
    [("X-A",)],
    [("X-A", "secret-value", "c")],
    ["XA"],
    None,
    5,
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=ascii)
def test_w18_a_bad_field_is_500_and_its_value_is_not_told(server: Server, fields: object) -> None:
    before = len(server.log())
    response = call(server, "with_fields", v=ascii(fields), key=key())
    assert response.status == 500
    assert response.get("x-evil") is None
    log = server.wait_for_log("Error", after=before)
    # the request line shows the value, percent-encoded, because the test's own URL has it
    told = [line for line in log.splitlines() if "secret-value" in line and "with_fields?" not in line]
    assert told == []


def test_w18_latin_1_values_and_tabs_are_fine(server: Server) -> None:
    response = call(server, "with_fields", v=ascii([("X-A", "caf\u00e9\t!"), ("X-Empty", "")]))
    assert (response.status, response.get("x-a"), response.get("x-empty")) == (200, "caf\u00e9\t!", "")


def test_w19_order_and_duplicates_are_kept(server: Server, manner: str) -> None:
    response = call(server, "duplicates", manner)
    assert response.all("set-cookie") == ["b=2", "a=1", "c=3", "d=4"]
    assert [n for n, _ in response.fields if n in ("Set-Cookie", "X-End")][3] == "X-End"


def test_w20_the_list_of_fields_is_copied(server: Server, manner: str) -> None:
    assert call(server, "changes_its_list", manner).get("x-said") == "before"


def test_h12_date_and_server_of_the_app_stand_alone(server: Server, manner: str) -> None:
    response = call(server, "own_date_and_server", manner)
    assert (response.get("date"), response.get("server")) == ("Thu, 01 Jan 1970 00:00:00 GMT", "own/1")


# environ


def show(
    server: Server, target: str = "/plain/show", fields: bytes = b"", body: bytes = b"", **options: Any
) -> Any:
    method = b"POST" if fields.startswith((b"Content-Length", b"Transfer")) else b"GET"
    version = options.pop("version", b"1.1")
    with server.connect(**options) as connection:
        connection.send(
            method
            + b" "
            + target.encode()
            + b" HTTP/"
            + version
            + b"\r\nHost: test.example\r\n"
            + fields
            + b"\r\n"
            + body
        )
        return connection.read().json()


def test_w21_environ_is_a_dict_of_native_strings(server: Server, manner: str) -> None:
    shown = call(server, "show", manner).json()
    assert (shown["type"], shown["keys_are_str"], shown["latin_1"]) == ("dict", True, True)
    for required in (
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
        "SERVER_NAME",
        "SERVER_PORT",
    ):
        assert isinstance(shown["strings"][required], str)
    assert shown["strings"]["SERVER_PORT"] == str(server.address[1])
    assert shown["strings"]["SERVER_NAME"] in ("127.0.0.1", "test.example")
    assert shown["strings"]["REMOTE_ADDR"] == "127.0.0.1"
    assert shown["strings"]["REMOTE_PORT"].isdigit()


@pytest.mark.parametrize(
    ("target", "path_info", "query"),
    [
        ("/plain/show/a%2Fb//c%20d", "/plain/show/a/b//c d", ""),
        ("/plain/show/%C3%A9%ff", "/plain/show/\u00c3\u00a9\u00ff", ""),
        ("/plain/show/%2541", "/plain/show/%41", ""),
        ("/plain/show/a+b", "/plain/show/a+b", ""),
        ("/plain/show/./../x", "/plain/show/./../x", ""),
        ("/plain/show?", "/plain/show", ""),
        ("/plain/show?a=%41+b&c#".rstrip("#"), "/plain/show", "a=%41+b&c"),
        ("/plain/show??a=?b", "/plain/show", "?a=?b"),
        ("/plain/show/;p=1?q", "/plain/show/;p=1", "q"),
    ],
)
def test_w22_w24_path_and_query(server: Server, target: str, path_info: str, query: str) -> None:
    strings = show(server, target)["strings"]
    assert (strings["PATH_INFO"], strings["QUERY_STRING"]) == (path_info, query)
    assert (strings["RAW_URI"], strings["REQUEST_URI"]) == (target, target)
    assert strings["SCRIPT_NAME"] == ""


def test_w23_w22_the_root_is_a_slash(start: Start) -> None:
    server = start("echo")
    environ = server.get("/").json()["environ"]
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/")
    assert server.get("//a").json()["environ"]["PATH_INFO"] == "//a"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_w25_the_protocol_is_the_clients(server: Server, version: str) -> None:
    assert show(server, version=version.encode())["strings"]["SERVER_PROTOCOL"] == f"HTTP/{version}"


def test_w26_content_fields_have_no_prefix(server: Server) -> None:
    strings = show(server, fields=b"Content-Length: 2\r\nContent-Type: text/x; a=b\r\n", body=b"hi")[
        "strings"
    ]
    assert (strings["CONTENT_LENGTH"], strings["CONTENT_TYPE"]) == ("2", "text/x; a=b")
    assert not {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"} & set(strings)
    assert show(server, fields=b"Content-Length: 0\r\n")["strings"].get("CONTENT_LENGTH") == "0"
    assert show(server)["strings"].get("CONTENT_LENGTH", "") == ""


def test_w26_a_chunked_body_at_hand_has_its_length(server: Server) -> None:
    strings = show(server, fields=b"Transfer-Encoding: chunked\r\n", body=chunked(b"hel", b"lo"))["strings"]
    assert strings["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in strings


def test_w26_w33_a_streamed_chunked_body_has_no_length_and_is_terminated(streaming: Server) -> None:
    with streaming.connect() as connection:
        head = b"POST /plain/show HTTP/1.1\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(head + b"3\r\nhel\r\n")
        time.sleep(0.1)
        connection.send(b"2\r\nlo\r\n0\r\n\r\n")
        shown = connection.read().json()
    assert shown["strings"].get("CONTENT_LENGTH", "") == ""
    assert shown["flags"]["wsgi.input_terminated"] is True


def test_w26_a_chunked_body_that_comes_with_its_head_has_a_length_even_when_streaming(
    streaming: Server,
) -> None:
    shown = show(streaming, fields=b"Transfer-Encoding: chunked\r\n", body=chunked(b"hel", b"lo"))
    assert shown["strings"]["CONTENT_LENGTH"] == "5"


def test_w27_duplicates_are_joined(server: Server) -> None:
    fields = b"X-A: 1\r\nCookie: a=1\r\nx-a: 2\r\nCookie: b=2\r\nX-A:\r\nAccept: x\r\n"
    strings = show(server, fields=fields)["strings"]
    assert re.sub(", ", ",", strings["HTTP_X_A"]) == "1,2,"
    assert (strings["HTTP_COOKIE"], strings["HTTP_ACCEPT"]) == ("a=1; b=2", "x")


def test_w29_obs_text_is_latin_1(server: Server) -> None:
    assert (
        show(server, fields=b"X-A: caf\xc3\xa9 \xff\r\n")["strings"]["HTTP_X_A"] == "caf\u00c3\u00a9 \u00ff"
    )


def test_w31_the_scheme_and_the_client_come_from_trusted_peers(server: Server) -> None:
    fields = b"Forwarded: for=203.0.113.9;proto=https;host=shop.example\r\n"
    trusted = show(server, fields=fields)["strings"]
    assert (trusted["REMOTE_ADDR"], trusted["wsgi.url_scheme"]) == ("203.0.113.9", "https")
    untrusted = show(server, fields=fields, source="127.0.0.9")["strings"]
    assert (untrusted["REMOTE_ADDR"], untrusted["wsgi.url_scheme"]) == ("127.0.0.9", "http")


def test_w31_an_ipv6_client_through_a_proxy(server: Server) -> None:
    strings = show(server, fields=b"X-Forwarded-For: 2001:db8::7\r\n")["strings"]
    assert strings["REMOTE_ADDR"] == "2001:db8::7"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_w39_the_flags_are_truthful(start: Start, threads: int, workers: int) -> None:
    flags = call(start("rules", "--threads", str(threads), "--workers", str(workers)), "show").json()["flags"]
    assert flags["wsgi.version"] == [1, 0]
    assert flags["wsgi.multithread"] is (threads > 1)
    assert flags["wsgi.multiprocess"] is (workers > 1)
    assert flags["wsgi.run_once"] is False


def test_w40_the_process_environment_does_not_leak(start: Start) -> None:
    server = start("rules", env={"SECRET_OF_THE_PROCESS": "1"})
    strings = call(server, "show").json()["strings"]
    assert not {"PATH", "HOME", "SECRET_OF_THE_PROCESS", "PYTHONPATH"} & set(strings)


def test_w41_environ_is_of_one_request(server: Server) -> None:
    for _ in range(3):
        assert call(server, "spoils_environ").body == b"spoiled"
        shown = call(server, "show").json()
        assert shown["left_by_others"] is None
        assert shown["strings"]["wsgi.url_scheme"] == "http"
        assert shown["strings"]["SERVER_SOFTWARE"].startswith("trivet")
        assert "SERVER_NAME" in shown["strings"]
        assert shown["flags"]["wsgi.version"] == [1, 0]
    strings = show(server, fields=b"X-First: 1\r\n")["strings"]
    assert strings["HTTP_X_FIRST"] == "1"
    assert "HTTP_X_FIRST" not in show(server)["strings"]


def test_the_request_id_is_in_environ_and_in_the_answer(server: Server) -> None:
    with server.connect() as connection:
        first = connection.request("GET", "/plain/show")
        second = connection.request("GET", "/plain/show")
    ids = [r.json()["strings"]["trivet.request_id"] for r in (first, second)]
    assert ids == [first.get("x-request-id"), second.get("x-request-id")]
    assert ids[0] != ids[1]


def test_the_request_id_of_a_trusted_peer_is_taken_over(server: Server) -> None:
    fields = b"X-Request-Id: from-the-proxy-1\r\n"
    assert show(server, fields=fields)["strings"]["trivet.request_id"] == "from-the-proxy-1"
    assert (
        show(server, fields=fields, source="127.0.0.9")["strings"]["trivet.request_id"] != "from-the-proxy-1"
    )


# Input

LINES = b"one\ntwo\n\nthree\r\nfour"
CALLS: list[tuple[list[list[object]], list[object]]] = [
    ([["read", 3], ["read", 1], ["read", 1000]], ["one", "\n", "two\n\nthree\r\nfour"]),
    ([["read", 0], ["read", -1], ["read", -1], ["read", 5]], ["", LINES.decode(), "", ""]),
    ([["readline"], ["readline"], ["readline"]], ["one\n", "two\n", "\n"]),
    ([["readline", 2], ["readline", 2], ["readline", 2]], ["on", "e\n", "tw"]),
    ([["read", 13], ["readline"], ["readline"], ["readline"]], [LINES[:13].decode(), "e\r\n", "four", ""]),
    ([["readlines"], ["readlines"], ["readline"]], [["one\n", "two\n", "\n", "three\r\n", "four"], [], ""]),
    ([["readlines", 5], ["read", -1]], [["one\n", "two\n"], "\nthree\r\nfour"]),
    ([["iterate"], ["read", 1]], [["one\n", "two\n", "\n", "three\r\n", "four"], ""]),
    ([["readline"], ["read", 2], ["iterate"]], ["one\n", "tw", ["o\n", "\n", "three\r\n", "four"]]),
]


@pytest.mark.parametrize(("calls", "expected"), CALLS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("way", ["inline", "spooled", "streamed"])
def test_w32_input_reads_as_a_file(
    server: Server,
    streaming: Server,
    manner: str,
    way: str,
    framing: str,
    calls: list[list[object]],
    expected: list[object],
) -> None:
    body = LINES
    which = streaming if way == "streamed" else server
    if way == "spooled":
        # the same lines behind so much that the body is kept in a file
        body = b"x" * 100_000 + LINES
        calls = [["read", 100_000], *calls]
        expected = ["x" * 100_000, *expected]
    before = len(which.log())
    with which.connect() as connection:
        target = path("reads", manner, calls=json.dumps(calls))
        if framing == "length":
            response = connection.request("POST", target, body=body)
        else:
            pieces = (
                [body[i : i + 7000] for i in range(0, len(body), 7000)]
                if way == "spooled"
                else [body[:5], body[5:]]
            )
            response = connection.request("POST", target, {"Transfer-Encoding": "chunked"}, chunked(*pieces))
        assert response.json() == expected
    if manner == "validated":
        assert "AssertionError" not in which.log()[before:]


def test_w32_read_without_and_with_none(server: Server, streaming: Server) -> None:
    for which in server, streaming:
        for calls in (
            [["read"]],
            [["read", None]],
            [["readline", -1], ["read", None]],
            [["readline", None], ["read"]],
        ):
            with which.connect() as connection:
                response = connection.request("POST", path("reads", calls=json.dumps(calls)), body=LINES)
                assert "".join(response.json()) == LINES.decode()


def test_w32_no_body_is_the_end_at_once(server: Server, streaming: Server, manner: str) -> None:
    calls = [["read", 1], ["readline"], ["readlines"], ["iterate"], ["read", -1]]
    for which in server, streaming:
        assert call(which, "reads", manner, calls=json.dumps(calls)).json() == ["", "", [], [], ""]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("reset", [False, True])
def test_w35_a_client_that_breaks_off_is_an_error_for_the_reader(
    streaming: Server, framing: str, reset: bool
) -> None:
    which = key()
    with streaming.connect() as connection:
        if framing == "length":
            fields, body = "Content-Length: 100000", b"x" * 5000
        else:
            fields, body = "Transfer-Encoding: chunked", b"1388\r\n" + b"x" * 5000 + b"\r\n"
        target = path("reads_to_the_end", key=which)
        connection.send(f"POST {target} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n\r\n".encode() + body)
        until(lambda: note(streaming, which) == "reading", why="the app reads")
        if reset:
            connection.reset()
    ended = until(lambda: (n := note(streaming, which)) != "reading" and n, why="the app is told")
    assert ended.endswith("OSError=True"), ended


def test_w35_a_buffered_body_that_breaks_off_never_reaches_the_app(server: Server) -> None:
    which = key()
    with server.connect() as connection:
        target = path("reads_to_the_end", key=which)
        connection.send(
            f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode() + b"x" * 5000
        )
        connection.finish_sending()
        rest = connection.rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400 "), rest
    assert note(server, which) is None


# Files


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / "big"
    file.write_bytes(b"".join(b"%07d\n" % i for i in range(500_000)))
    return file


@pytest.mark.parametrize("length", [None, 1000])
@pytest.mark.parametrize("offset", [0, 12_345])
def test_w37_a_file_is_sent_from_its_offset(
    server: Server, manner: str, big_file: Path, offset: int, length: int | None
) -> None:
    if length and manner == "validated":
        pytest.skip("the validator hides the wrapper, and then the app's body is longer than it says")
    which = key()
    query: dict[str, object] = {"key": which, "path": big_file, "offset": offset}
    response = call(server, "file", manner, **query | ({"length": length} if length else {}))
    content = big_file.read_bytes()[offset:]
    assert response.body == (content[:length] if length else content)
    closed_once(server, which)


def test_w37_head_of_a_file_has_no_body(server: Server, big_file: Path) -> None:
    which = key()
    response = call(server, "file", method="HEAD", key=which, path=big_file)
    assert (response.status, response.body) == (200, b"")
    closed_once(server, which)


def test_w37_an_empty_file(server: Server, manner: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    which = key()
    assert call(server, "file", manner, key=which, path=tmp_path / "empty").body == b""
    closed_once(server, which)


def test_w37_what_has_no_descriptor_is_read(server: Server, manner: str) -> None:
    assert call(server, "file_in_memory", manner).body == b"in memory" * 10_000


def test_w37_a_wrapper_that_is_not_returned_is_an_iterable(server: Server, manner: str) -> None:
    assert call(server, "file_shortened", manner).body == b"012|345|678|9"


def test_w37_pipelined_requests_behind_a_file(server: Server, big_file: Path) -> None:
    with server.connect() as connection:
        connection.send(request("GET", path("file", path=big_file)) + request("GET", "/plain/hello"))
        assert len(connection.read().body) == big_file.stat().st_size
        assert connection.read().body == b"hello"


def test_w37_a_client_that_goes_closes_the_file(server: Server, big_file: Path) -> None:
    which = key()
    with server.connect(receive_buffer=4096) as connection:
        connection.send(request("GET", path("file", key=which, path=big_file))).read_head()
        connection.reset()
    closed_once(server, which)


# The rest


def test_w38_errors_is_a_text_stream(server: Server, manner: str) -> None:
    before = len(server.log())
    assert call(server, "complains", manner).body == b"complained"
    for text in (
        "complaint: caf\u00e9 \u2603",
        "first line\nsecond line\n",
        "printed complaint",
        "printed to stdout",
    ):
        server.wait_for_log(text, after=before)


def test_w42_early_hints_go_before_the_head(server: Server) -> None:
    response = call(server, "hints")
    assert (response.status, response.body) == (200, b"hinted")
    assert [(i.status, i.get("link")) for i in response.interim] == [
        (103, "</style.css>; rel=preload; as=style")
    ]


def test_w42_no_early_hints_for_1_0(server: Server) -> None:
    with server.connect() as connection:
        connection.send(b"GET /plain/hints HTTP/1.0\r\n\r\n")
        response = connection.read()
        assert (response.body, response.interim) == (b"hinted", [])


@pytest.mark.parametrize("what", ["system", "keyboard", "generator", "late"])
def test_w43_an_exit_in_a_request_is_500_and_the_worker_survives(server: Server, what: str) -> None:
    before = call(server, "pid").json()
    assert call(server, "exits", what=what).status == 500
    assert call(server, "pid").json() == before


def test_w43_an_exit_in_a_request_thread_is_500(start: Start, transport: str) -> None:
    server = start("rules", "--threads", "2", "--transport", transport)
    before = call(server, "pid").json()
    for what in "system", "keyboard", "system", "keyboard":
        assert call(server, "exits", what=what).status == 500
    assert call(server, "pid").json() == before


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_w44_each_chunk_leaves_before_the_next_is_asked_for(
    server: Server, manner: str, tmp_path: Path, version: str
) -> None:
    flag = tmp_path / "flag"
    target = path("step_by_step", manner, flag=flag)
    with server.connect() as connection:
        connection.send(f"GET {target} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
        assert connection.read_head().status == 200
        for i in range(3):
            if version == "1.1":
                assert connection.read_chunk() == b"chunk %d" % i
            else:
                assert connection._grant(("exact", 7)) == b"chunk %d" % i
            Path(f"{flag}.{i}").touch()
        assert connection._grant(("exact", 5)) == b"0\r\n\r\n" if version == "1.1" else True


def test_w45_a_client_that_does_not_read_holds_neither_memory_nor_the_gil(
    start: Start, transport: str
) -> None:
    server = start("rules", "--threads", "2", "--transport", transport)
    edge = server.edge()
    before = procs.memory_bytes(edge)
    with server.connect(receive_buffer=4096) as stalled:
        stalled.send(request("GET", path("counted_endless", key="stalled")))
        stalled.read_head()
        worker = server.workers()[0]
        idle_since = [procs.cpu_seconds(worker), 0]

        def waits() -> bool:
            now = procs.cpu_seconds(worker)
            idle_since[1] = idle_since[1] + 1 if now == idle_since[0] else 0
            idle_since[0] = now
            return idle_since[1] > 50

        until(waits, why="the worker waits for the client")
        for _ in range(50):
            assert server.get("/plain/hello").body == b"hello"
        assert procs.memory_bytes(edge) - before < 8 * MIB
    closed_once(server, "stalled")


@pytest.mark.parametrize("method", ["PROPFIND", "fOo", "get", "M-SEARCH", "X"])
def test_w52_methods_are_free_and_keep_their_case(server: Server, manner: str, method: str) -> None:
    if manner == "validated" and method != "PROPFIND":
        pytest.skip("the validator warns about methods that it does not know")
    assert call(server, "method", method=method).json() == method


def test_fork_a_child_that_returns_into_the_server_does_not_answer(server: Server) -> None:
    before = call(server, "pid").json()
    for _ in range(3):
        assert call(server, "child_process").body == b"from the parent"
    assert call(server, "pid").json() == before
