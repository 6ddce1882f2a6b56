"""Templates in the language of Jinja (`crates/trivet-python/src/templates.rs`)."""

from collections.abc import Callable
from typing import Any, final

from typing_extensions import Self

@final
class Environment:
    """Compiled templates with their filters, tests and globals."""

    def __new__(
        cls,
        load: Callable[[str], str | None],
        failed: Callable[[str, str, list[tuple[str, int]], BaseException | None], BaseException],
        escaped: Callable[[str], bool],
        *,
        filters: dict[str, Callable[..., Any]],
        tests: dict[str, Callable[..., Any]],
        globals: dict[str, Any],
        strict: bool = False,
        debug: bool = False,
    ) -> Self:
        """`load(name)` gives a template's text; `failed(message, kind, places, cause)` makes the exception
        for a failure; `escaped(name)` says whether a template's output is HTML.
        """
    def render(self, name: str, context: dict[str, Any]) -> str: ...
    def render_string(self, name: str, source: str, context: dict[str, Any]) -> str: ...
    def render_block(self, name: str, block: str, context: dict[str, Any]) -> str: ...
