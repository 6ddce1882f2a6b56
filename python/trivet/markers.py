"""What an annotation says about where an argument comes from: `Body[Todo]`, `Form[str]`, `Annotated[str,
Query("from")]`.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

T = TypeVar("T")


class BodyMarker:
    """The whole body, decoded into the annotated type."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Body"


class FormMarker:
    """A field of the form."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Form"


class Query:
    """The name a parameter has in the request, where Python cannot have it: `Annotated[str, Query("from")]`.

    With `Form` it names the form's field: `Annotated[Form[str], Query("e-mail")]`.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Query({self.name!r})"


#: `todo: Body[Todo]`: for a type checker it is a `Todo`.
Body = Annotated[T, BodyMarker()]

#: `name: Form[str]`: for a type checker it is a `str`.
Form = Annotated[T, FormMarker()]
