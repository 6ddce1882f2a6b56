"""`trivet.templates`: Python's objects in templates, escaping, errors with the template's line."""

from __future__ import annotations

import datetime
import decimal
import enum
import sqlite3
import sys
import threading
import traceback
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from trivet.templates import Markup, TemplateError, TemplateMissing, Templates, escape

Point = namedtuple("Point", "x y")


@pytest.fixture(params=["minijinja", "jinja2"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "jinja2":
        pytest.importorskip("jinja2")
    return str(request.param)


@pytest.fixture
def templates(tmp_path: Path, engine: str) -> Templates:
    return Templates(tmp_path, engine=engine)


def rendered(source: str, /, **context: Any) -> str:
    return Templates(".").render_string(source, **context)


@dataclass
class User:
    name: str
    tags: list[str] = field(default_factory=list)

    @property
    def upper(self) -> str:
        return self.name.upper()

    @property
    def broken(self) -> str:
        raise ZeroDivisionError("in a property")

    def greet(self, how: str = "hello", *, end: str = "") -> str:
        return f"{how} {self.name}{end}"


class Color(enum.Enum):
    RED = "red"


class Level(str, enum.Enum):
    HIGH = "high"


class Row:
    """As rows of a database are: by name, by place, by attribute."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def keys(self) -> Any:
        return self._values.keys()

    def __getitem__(self, key: Any) -> Any:
        return list(self._values.values())[key] if isinstance(key, int) else self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)


def count() -> Iterator[int]:
    yield from (1, 2, 3)


# What both engines do alike.


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ user.name }} {{ user.upper }} {{ user.missing }}|", "ada ADA |"),
        ("{{ user.greet() }} {{ user.greet('hi', end='!') }}", "hello ada hi ada!"),
        ("{% for t in user.tags %}{{ loop.index }}{{ t }}{% endfor %}", "1a2b"),
        ("{{ data.a }} {{ data['b c'] }} {{ data.get('z', 9) }}", "1 2 9"),
        ("{% for k, v in data.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b c=2;"),
        ("{% for n in count() %}{{ n }}{% endfor %}", "123"),
        ("{% for n in gen %}{{ n }}{% else %}none{% endfor %}", "123"),
        ("{{ when.year }} {{ when.strftime('%d.%m.%Y') }} {{ when }}", "2026 21.11.2026 2026-11-21"),
        ("{{ point.x + point.y }} {{ point[0] }}", "3 1"),
        ("{{ none }} {{ true }} {{ 1.5 }} {{ 1e20 }} {{ big }}", f"None True 1.5 1e+20 {10**30}"),
        ("{{ none_value }} {{ false_value }} {{ float_value }}", "None False 2.0"),
        ("{{ '<b>' }} {{ '<b>'|safe }} {{ html }} {{ widget }}", "&lt;b&gt; <b> <i>x</i> <u>w</u>"),
        ("{{ '/a?b=1&c' }} {{ quotes }}", "/a?b=1&amp;c &#34;&#39;&gt;"),
        ("{{ color.value }} {{ color.name }}", "red RED"),
        ("{% if level == 'high' %}yes{% endif %}", "yes"),
        ("{% if user %}a{% endif %}{% if empty %}b{% endif %}{% if not nothing %}c{% endif %}", "ac"),
        ("{{ user.tags|join(', ') }} {{ user.tags|length }} {{ 'x'|upper }}", "a, b 2 X"),
        ("{{ names|sort|first }} {{ names|reverse|list|last }}", "a c"),
        ("{{ 'a,b'.split(',')[1] }} {{ 'Abc'.startswith('A') }}", "b True"),
        ("{{ undefined_name|default('d') }}", "d"),
        ("{% macro m(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}{{ m(1, y='<') }}", "121&lt;"),
        (
            "{% set s = namespace(n=0) %}{% for i in range(3) %}{% set s.n = s.n + i %}{% endfor %}{{ s.n }}",
            "3",
        ),
        ("{{ {'a': 1}|tojson }} {{ '</script>'|tojson }}", '{"a": 1} "\\u003c/script\\u003e"'),
        ("{{ 'a b&c'|urlencode }}", "a%20b%26c"),
        ("{{ d > c }} {{ c == c }} {{ c != d }}", "True True True"),
        ("{{ price }}", "1.50"),
        ("{{ twice(4) }} {{ 4|double }} {% if 4 is even_number %}even{% endif %}", "8 8 even"),
        ("{% raw %}{{ x }}{% endraw %}{# a comment #}", "{{ x }}"),
        ("{{ 'a' in data }} {{ 1 in user.tags }} {{ 'a' in user.tags }}", "True False True"),
    ],
)
def test_templates_mean_the_same_in_both_engines(templates: Templates, source: str, text: str) -> None:
    templates.function(lambda x: x * 2, "twice")
    templates.filter(lambda x: x * 2, "double")
    templates.test(lambda x: x % 2 == 0, "even_number")

    class Widget:
        def __html__(self) -> str:
            return "<u>w</u>"

    context: dict[str, Any] = {
        "user": User("ada", ["a", "b"]),
        "data": {"a": 1, "b c": 2},
        "count": count,
        "gen": count(),
        "when": datetime.date(2026, 11, 21),
        "point": Point(1, 2),
        "big": 10**30,
        "none_value": None,
        "false_value": False,
        "float_value": 2.0,
        "html": Markup("<i>x</i>"),
        "widget": Widget(),
        "quotes": "\"'>",
        "color": Color.RED,
        "level": Level.HIGH,
        "empty": [],
        "names": ("c", "b", "a"),
        "c": datetime.date(2026, 1, 1),
        "d": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
    }
    assert templates.render_string(source, **context) == text


def test_inheritance_includes_and_imports(templates: Templates, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.html").write_text("<{% block title %}base{% endblock %}>{% block body %}{% endblock %}")
    (tmp_path / "page.html").write_text(
        "{% extends 'base.html' %}{% from 'sub/macros.html' import bold %}"
        "{% block title %}{{ super() }}+{% endblock %}"
        "{% block body %}{% include 'sub/part.html' %}{{ bold(x) }}{% endblock %}"
    )
    (tmp_path / "sub/part.html").write_text("[{{ x }}]")
    (tmp_path / "sub/macros.html").write_text("{% macro bold(t) %}<b>{{ t }}</b>{% endmacro %}")
    assert templates.render("page.html", x="<") == "<base+>[&lt;]<b>&lt;</b>"
    assert templates.render_block("base.html", "title") == "base"
    if templates.engine == "minijinja":  # Jinja2 knows no parents of a block alone
        assert templates.render_block("page.html", "title") == "base+"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", "&lt;"),
        ("a.HTM", "&lt;"),
        ("a.xml", "&lt;"),
        ("a.svg", "&lt;"),
        ("a.html.j2", "&lt;"),
        ("a.txt", "<"),
        ("a.txt.jinja", "<"),
        ("a.json", "<"),
    ],
)
def test_what_a_browser_reads_as_markup_is_escaped(
    templates: Templates, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text("{{ x }}")
    assert templates.render(name, x="<") == text


def test_a_missing_template_says_where_it_was_looked_for(templates: Templates, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("{% include 'none.html' %}")
    (tmp_path.parent / "outside.html").write_text("outside")
    with pytest.raises(TemplateMissing, match=r"none\.html"):
        templates.render("none.html")
    for name in ["../outside.html", "/etc/passwd", "a/../../outside.html", "", ".", "a\\b", "\0"]:
        with pytest.raises(TemplateMissing, match=r"looked in"):
            templates.render(name)
    with pytest.raises((TemplateMissing, LookupError)):
        templates.render("page.html")


def test_an_exception_of_python_goes_through(templates: Templates, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("one\n{% for x in items %}\n{{ user.broken }}\n{% endfor %}")
    with pytest.raises(ZeroDivisionError, match="in a property") as raised:
        templates.render("page.html", user=User("ada"), items=[1])
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert any(f.filename.endswith("page.html") and f.lineno == 3 for f in frames), frames
    assert frames[-1].name == "broken"


def test_iterators_that_fail_are_no_end(templates: Templates) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("in a generator")

    with pytest.raises(KeyError, match="in a generator"):
        templates.render_string("{% for x in f() %}{{ x }}{% endfor %}", f=failing)


def test_changed_templates_are_read_again_in_development(tmp_path: Path, engine: str) -> None:
    page, part = tmp_path / "page.html", tmp_path / "part.html"
    page.write_text("1{% include 'part.html' %}")
    part.write_text("a")
    fresh = Templates(tmp_path, engine=engine, reload=True)
    kept = Templates(tmp_path, engine=engine, reload=False)
    assert (fresh.render("page.html"), kept.render("page.html")) == ("1a", "1a")
    part.write_text("bb")
    assert (fresh.render("page.html"), kept.render("page.html")) == ("1bb", "1a")
    page.write_text("{% broken")
    with pytest.raises(Exception, match=r"broken|tag|statement"):
        fresh.render("page.html")
    page.write_text("mended")
    assert fresh.render("page.html") == "mended"


def test_earlier_folders_win(tmp_path: Path, engine: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.html").write_text(folder)
        (tmp_path / folder / "both.html").write_text(folder)
    templates = Templates(["one", "two"], root=tmp_path, engine=engine)
    assert [templates.render(f"{n}.html") for n in ("one", "two", "both")] == ["one", "two", "one"]


def test_undefined_names_fail_where_that_is_asked_for(tmp_path: Path, engine: str) -> None:
    strict = Templates(tmp_path, engine=engine, strict=True)
    with pytest.raises(Exception, match="undefined"):
        strict.render_string("{{ nothing }}")
    assert strict.render_string("{{ nothing|default('x') }}{% if nothing is defined %}y{% endif %}") == "x"


# Our own engine.


def test_errors_have_the_templates_line(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    (tmp_path / "page.html").write_text("one\ntwo\n{% if x %}\n{% include 'part.html' %}{% endif %}")
    (tmp_path / "part.html").write_text("\n{{ x.y.z }}")
    with pytest.raises(TemplateError, match="undefined value") as raised:
        templates.render("page.html", x={1: 2})
    assert (raised.value.name, raised.value.line) == ("part.html", 2)
    text = "".join(traceback.format_exception(raised.value))
    assert f'File "{tmp_path}/page.html", line 4' in text
    assert f'File "{tmp_path}/part.html", line 2' in text
    assert "{{ x.y.z }}" in text
    (tmp_path / "syntax.html").write_text("\n{% endfor %}")
    with pytest.raises(TemplateError) as raised:
        templates.render("syntax.html")
    assert str(raised.value).endswith("(`syntax.html`, line 2)")
    assert "endfor" in str(raised.value)


def test_rows_of_a_database_are_records() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("select 1 as id, 'ada' as name").fetchall()
    assert (
        rendered("{% for r in rows %}{{ r.id }}{{ r['name'] }}{{ r[0] }}{% endfor %}", rows=rows) == "1ada1"
    )
    connection.close()
    assert rendered("{{ r.id }}{{ r['name'] }}{{ r[0] }}", r=Row(id=1, name="ada")) == "1ada1"


def test_what_is_private_cannot_be_reached() -> None:
    for source in [
        "{{ u.__class__ }}",
        "{{ u['__class__'] }}",
        "{{ ''.__class__ }}",
        "{{ u|attr('__class__') }}",
    ]:
        assert "class" not in rendered(source, u=User("ada")).lower()
    with pytest.raises(TemplateError, match="method"):
        rendered("{{ u.__init__('x') }}", u=User("ada"))
    with pytest.raises(TemplateError, match="method"):
        rendered("{{ 'x'.__len__() }}")


def test_values_come_back_to_python_as_they_were() -> None:
    seen: list[Any] = []
    user = User("ada")
    templates = Templates(".")
    templates.function(lambda *args, **kwargs: seen.append((args, kwargs)), "see")
    templates.render_string(
        "{{ see(user, 1, 1.5, 'x', none, true, [1, user], {'a': 1}, big, html, nothing, k=2) }}",
        user=user,
        big=2**70,
        html=Markup("<b>"),
    )
    args, kwargs = seen[0]
    assert args[0] is user
    assert args[1:10] == (1, 1.5, "x", None, True, [1, user], {"a": 1}, 2**70, "<b>")
    assert args[6][1] is user
    assert hasattr(args[9], "__html__")
    assert args[10] is None
    assert kwargs == {"k": 2}


def test_a_text_that_fails_is_an_exception_not_nothing() -> None:
    class Bad:
        def __str__(self) -> str:
            raise LookupError("no text")

    for source in ["{{ x }}", "{{ x ~ 'a' }}", "{{ [x]|join }}", "{{ x|upper }}"]:
        with pytest.raises(LookupError, match="no text"):
            rendered(source, x=Bad())
    with pytest.raises(UnicodeEncodeError):
        rendered("{{ x }}", x="\ud800")


def test_json_of_what_python_has() -> None:
    value = OrderedDict(
        user=User("a'<"),
        when=datetime.datetime(2026, 1, 2, 3, 4),
        id=uuid.UUID(int=1),
        price=decimal.Decimal("1.5"),
        row=Row(a=1),
        some={1},
    )
    text = rendered("{{ v|tojson }}", v=value)
    assert text.startswith('{"user": {"name": "a\\u0027\\u003c", "tags": []}, "when": "2026-01-02T03:04:00"')
    assert text.endswith(
        '"id": "00000000-0000-0000-0000-000000000001", "price": "1.5", "row": {"a": 1}, "some": [1]}'
    )
    with pytest.raises(TypeError, match="no form in JSON"):
        rendered("{{ v|tojson }}", v=object())


def test_a_template_may_render_another_and_threads_do_not_wait(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    (tmp_path / "inner.html").write_text("<{{ x }}>")
    templates.function(lambda x: Markup(templates.render("inner.html", x=x)), "inner")
    barrier = threading.Barrier(4, timeout=10)
    templates.function(lambda: str(barrier.wait() >= 0), "meet")
    results: list[str] = []

    def run() -> None:
        results.append(templates.render_string("{{ meet() }}{{ inner('&') }}"))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == ["True<&amp;>"] * 4


def test_endless_recursion_ends(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    (tmp_path / "a.html").write_text("{% include 'a.html' %}")
    with pytest.raises(TemplateError, match=r"recursion|depth"):
        templates.render("a.html")


def test_markup_escapes_what_joins_it() -> None:
    assert Markup("<b>") + "<" == "<b>&lt;"
    assert "<" + Markup("<b>") == "&lt;<b>"
    assert Markup("<i>%s</i>") % "<" == "<i>&lt;</i>"
    assert Markup("<i>%(a)s %(n)d</i>") % {"a": "<", "n": 3} == "<i>&lt; 3</i>"
    assert Markup("{} {a}").format("<", a=Markup("<b>")) == "&lt; <b>"
    assert Markup("<br>").join(["<", Markup("<b>")]) == "&lt;<br><b>"
    assert escape(Markup("<b>")) == "<b>"
    assert escape("\"'") == "&quot;&#x27;"
    assert isinstance(Markup("a") * 2, Markup)


def test_markup_of_others_is_respected() -> None:
    markupsafe = pytest.importorskip("markupsafe")
    assert rendered("{{ x }}", x=markupsafe.Markup("<b>")) == "<b>"


def test_jinja2_must_be_there_to_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match="hint: install it"):
        Templates(".", engine="jinja2").render_string("x")
    with pytest.raises(ValueError, match="no engine"):
        Templates(".", engine="mako")


def test_nothing_is_kept_after_a_rendering() -> None:
    import gc
    import weakref

    user = User("ada", ["1", "2"])
    gone = weakref.ref(user)
    assert rendered("{% for i in u.tags %}{{ i }}{{ u }}{{ u.greet() }}{% endfor %}", u=user).startswith("1")
    del user
    gc.collect()
    assert gone() is None
    templates = Templates(".")
    templates.render_string("x")
    kept = weakref.ref(templates)
    del templates
    gc.collect()
    assert kept() is None
