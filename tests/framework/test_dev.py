"""`trivet.dev`: who sees the error page, and what is on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trivet.dev import error_page, is_local, is_secret, log_line, mask

HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8443", "REQUEST_METHOD": "GET", "PATH_INFO": "/a"}


@pytest.fixture(autouse=True)
def dev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVET_DEV", "1")


@dataclass
class Account:
    name: str
    password: str


def fail() -> BaseException:
    password = "hunter2-hunter2"
    copy = f"<the text {password}>"
    account = Account("ada", "tiger-tiger")
    settings = {"API_KEY": "k-123456789", "debug": True, "url": "mysql://root:opensesame@db/shop"}
    try:
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError(f"<b>no {copy}</b>") from error
    except ValueError as error:
        assert account
        assert settings
        return error


def page(error: BaseException | None = None, **environ: Any) -> str:
    shown = error_page(error or fail(), {**HERE, **environ})
    assert shown is not None
    return shown.decode()


@pytest.mark.parametrize(
    ("peer", "host", "seen"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.8.9.1", "127.0.0.1:80", True),
        ("::1", "[::1]:8443", True),
        ("::ffff:127.0.0.1", "LOCALHOST.:8000", True),
        ("127.0.0.1", "shop.localhost:8443", True),
        ("192.168.0.7", "localhost", False),
        ("::ffff:192.168.0.7", "localhost", False),
        ("127.0.0.1", "evil.example", False),  # DNS rebinding
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "notlocalhost", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "localhost:80@evil.example", False),
        ("127.0.0.1", "", False),
        ("", "localhost", False),  # a unix socket: nobody knows who
        ("127.0.0.1, 1.2.3.4", "localhost", False),
        ("127.0.0.1", "192.168.0.7", False),
    ],
)
def test_only_this_machine_sees_the_page(peer: str, host: str, seen: bool) -> None:
    environ = {**HERE, "REMOTE_ADDR": peer, "HTTP_HOST": host}
    assert is_local(environ) is seen
    assert (error_page(fail(), environ) is not None) is seen


def test_without_development_there_is_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIVET_DEV")
    assert error_page(fail(), HERE) is None


def test_the_page_has_the_error_its_cause_source_and_locals() -> None:
    text = page(QUERY_STRING="q=%3Cx%3E")
    assert "<h1>ValueError</h1>" in text
    assert "&lt;b&gt;no &lt;the text" in text
    assert "was the direct cause of it" in text
    assert "KeyError" in text
    assert "<th scope=row>account" in text
    assert "Account(name=&#x27;ada&#x27;" in text
    assert re.search(r"class=here><u>\d+</u>.*raise", text)
    assert "<th scope=row>?q<td><code>&lt;x&gt;</code>" in text
    assert "<x>" not in text


def test_secrets_are_masked_wherever_they_turn_up() -> None:
    text = page(
        HTTP_AUTHORIZATION="Bearer abcdefghijklmnop",
        HTTP_COOKIE="session=eyJ1aWQiOjF9.abcdef; theme=dark",
        HTTP_X_CSRF_TOKEN="csrf-123456",
        HTTP_USER_AGENT="curl abcdefghijklmnop",
        QUERY_STRING="reset_token=rrrrrrrr",
    )
    for secret in ["hunter2", "tiger-tiger", "k-123456789", "opensesame", "abcdefghijklmnop", "eyJ1aWQiOjF9"]:
        # Its source is on the screen that it was written at.
        outside = re.sub(r"<pre class=source.*?</pre>", "", text, flags=re.S)
        assert secret not in outside, secret
    assert "csrf-123456" not in text
    assert "rrrrrrrr" not in text
    assert "session=••••••; theme=••••••" in text
    assert "<th scope=row>name" not in text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB_PASSWORD",
        "secret_key",
        "apikey",
        "api_key",
        "HTTP_COOKIE",
        "session",
        "auth_token",
        "TRIVET_DB",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["name", "keyboard", "monkey", "key", "passenger", "compass", "spinner", "author_id"]
)
def test_other_names_are_not_secrets(name: str) -> None:
    assert is_secret(name) is (name == "author_id"), "`author` is masked rather than `authorization` shown"


def test_texts_lose_what_follows_a_secrets_name() -> None:
    assert mask("{'password': 'a b', 'x': 1}") == "{'password': ••••••, 'x': 1}"
    assert mask("token=abc&x=1") == "token=••••••"
    assert mask("Authorization: Bearer abc") == "Authorization: ••••••"
    assert mask("postgres://u:p@h/db") == "postgres://u:••••••@h/db"
    assert mask("a plain text") == "a plain text"


def test_what_cannot_be_shown_does_not_stop_the_page() -> None:
    class Nasty:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class Worse(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def deep(n: int, nasty: Any) -> None:
        endless: list[Any] = ["\ud800 surrogate"]
        endless.append(endless)
        if n:
            deep(n - 1, nasty)
        raise Worse

    with pytest.raises(Worse) as raised:
        deep(300, Nasty())
    text = page(raised.value)
    assert "Nasty, whose repr raised RuntimeError" in text
    assert len(text) < 2_000_000


def test_a_syntax_error_is_shown_where_it_is(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n    pass\n")
    with pytest.raises(SyntaxError) as raised:
        compile(broken.read_text(), str(broken), "exec")
    assert "def</i> f(:" in page(raised.value)


def test_a_request_is_one_line() -> None:
    assert log_line("12:00:00", "GET", "/a", 200, 0.0015) == "12:00:00 GET /a 200 1.5 ms"
    assert log_line("12:00:00", "GET", "/\x1b[31m", 200, 2) == "12:00:00 GET /\\x1b[31m 200 2.00 s"
    assert "\x1b[31m500\x1b[0m" in log_line("12:00:00", "GET", "/", 500, 0, color=True)
