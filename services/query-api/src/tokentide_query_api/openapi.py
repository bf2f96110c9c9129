"""The OpenAPI document at `/schema`, from the declared parameters and columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec import Parameter as SpecParameter
from litestar.openapi.spec.enums import OpenAPIType

from tokentide_common import problem
from tokentide_query_api.formats import MEDIA_TYPES
from tokentide_query_api.parameters import Parameter

_TEXT: Final = OpenAPIType.STRING
_PROBLEMS: Final = {
    "400": "The request cannot be understood; `errors` names each parameter.",
    "401": "No credentials, or none that are good: an unknown or revoked key, or one of another kind.",
    "403": "Who asks is known, and their role or key does not allow it.",
    "429": "Too many requests; `Retry-After` says when to come back.",
    "503": "The store or the accounts are away; `Retry-After` says when to come back.",
}


def document() -> OpenAPIConfig:
    """Return the configuration: JSON only, so that the page loads nothing from elsewhere."""
    return OpenAPIConfig(
        title="Tokentide query API",
        version="1",
        path="/schema",
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        components=Components(security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"key": []}],
        use_handler_docstrings=False,
    )


def operation_of(parameters: tuple[Parameter, ...], answer: Schema, *, path_id: str = "") -> type[Operation]:
    """Return the operation class of a reading route: Litestar fills in the rest."""
    declared = [_parameter(p) for p in parameters]
    responses = {"200": _answers(answer), **{status: _problem(text) for status, text in _PROBLEMS.items()}}
    if path_id:
        declared.insert(0, SpecParameter(path_id, "path", schema=Schema(type=_TEXT), required=True))
        responses["404"] = _problem("There is no such thing in the caller's organisation.")
    return _declared(declared, responses)


def stream_operation(
    parameters: tuple[Parameter, ...], media_types: Iterable[str], description: str
) -> type[Operation]:
    """Return the operation class of a route whose answer is made while it is read."""
    content = {media.partition(";")[0]: OpenAPIMediaType(schema=Schema(type=_TEXT)) for media in media_types}
    responses = {status: _problem(text) for status, text in _PROBLEMS.items()}
    responses["200"] = OpenAPIResponse(description=description, content=content)
    return _declared([_parameter(p) for p in parameters], responses)


def _declared(declared: list[SpecParameter], responses: dict[str, OpenAPIResponse]) -> type[Operation]:
    @dataclass
    class ReadingOperation(Operation):
        """An operation whose parameters and answers are declared, not read off a signature."""

        parameters: Any = field(default_factory=lambda: declared)
        responses: Any = field(default_factory=lambda: responses)

        def __post_init__(self) -> None:
            self.parameters = declared
            self.responses = responses

    return ReadingOperation


def fields(**kinds: Schema) -> Schema:
    """Return the schema of an object with these fields, all present."""
    return Schema(type=OpenAPIType.OBJECT, properties=dict(kinds), required=list(kinds))


def array(of: Schema) -> Schema:
    """Return the schema of a list."""
    return Schema(type=OpenAPIType.ARRAY, items=of)


def _parameter(p: Parameter) -> SpecParameter:
    schema = Schema(type=_TEXT, enum=list(p.choices) or None, default=p.default or None)
    return SpecParameter(
        p.name,
        "query",
        schema=array(schema) if p.repeated else schema,
        description=p.description,
        required=False,
        style="form" if p.repeated else None,
        explode=True if p.repeated else None,
    )


def _answers(answer: Schema) -> OpenAPIResponse:
    other = Schema(type=_TEXT, description="The same facts as a table.")
    content = {
        media.partition(";")[0]: OpenAPIMediaType(schema=answer if name == "json" else other)
        for name, media in MEDIA_TYPES.items()
    }
    return OpenAPIResponse(description="The answer, in the format that was asked for.", content=content)


def _problem(text: str) -> OpenAPIResponse:
    names = ("type", "title", "detail", "code", "instance")
    schema = fields(**{name: Schema(type=_TEXT) for name in names}, status=Schema(type=OpenAPIType.INTEGER))
    return OpenAPIResponse(description=text, content={problem.MEDIA_TYPE: OpenAPIMediaType(schema=schema)})
