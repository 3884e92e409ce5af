"""The table of the routes, and their description as OpenAPI 3.1: from the types of their answers and the tables of
their parameters."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from kvlease.admin.answers import Drain, ErrorAnswer, Health, LeasePage, Released, Sessions
from kvlease.admin.questions import PREFIX_PATTERN
from kvlease.admin.reading import DRAIN, LEASES, Parameter

_REF = "#/components/schemas/{name}"
_ERRORS = {
    400: "What is asked is not allowed; the message says what is.",
    401: "The bearer token is missing, or another.",
    403: "It comes from a web page, or under a name that this machine may not have given itself.",
    404: "There is no such lease here.",
    409: "The lease is over already, or several begin with these digits; or the drain was undone.",
    429: "Too many are being answered, or wait.",
    500: "A bug of kvlease.",
    503: "The engine shuts down, or does not answer.",
}
_ALWAYS = (400, 401, 403, 429, 500, 503)


class Operation(NamedTuple):
    """A path and a method, what they take, and what they answer."""

    path: str
    method: str
    name: str
    """Its own name, by which it is served (`kvlease.admin.routes`)."""
    summary: str
    answer: type | None
    """The type of the answer; None for an object of any kind."""
    parameters: Mapping[str, Parameter]
    statuses: Mapping[int, str]
    errors: tuple[int, ...] = ()


OPERATIONS = (
    Operation("/health", "GET", "health", "The state of each engine", Health, {}, {200: "One entry a rank."}),
    Operation(
        "/leases", "GET", "leases", "The leases, in the order of their grants", LeasePage, LEASES, {200: "A page."}
    ),
    Operation(
        "/leases/{token}/release",
        "POST",
        "release",
        "End a lease at once: nobody may read it any more",
        Released,
        {},
        {200: "It is over."},
        (404, 409),
    ),
    Operation("/sessions", "GET", "sessions", "The open sessions", Sessions, {}, {200: "Of both kinds."}),
    Operation("/drain", "GET", "draining", "How far a drain is", Drain, {}, {200: "What is left."}),
    Operation(
        "/drain",
        "POST",
        "drain",
        "Grant no leases any more, and wait until none is left",
        Drain,
        DRAIN,
        {200: "None is left.", 202: "Some are left; the drain goes on."},
        (409,),
    ),
    Operation("/drain", "DELETE", "undrain", "Grant leases again", Drain, {}, {200: "It does."}),
    Operation("/openapi.json", "GET", "openapi", "This description", None, {}, {200: "OpenAPI 3.1."}),
)


def document(prefix: str) -> dict[str, Any]:
    """Returns the description of the routes under this prefix."""
    types = [operation.answer for operation in OPERATIONS if operation.answer is not None]
    _, schemas = msgspec.json.schema_components([*types, ErrorAnswer], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(prefix + operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kvlease", "version": version("kvlease")},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        # Where a token is set, every route asks for it.
        "security": [{}, {"bearer": []}],
    }


def _describe(operation: Operation) -> dict[str, Any]:
    answers = {str(status): _response(text, operation.answer) for status, text in operation.statuses.items()}
    errors = sorted({*_ALWAYS, *operation.errors})
    parameters = [_parameter(name, parameter) for name, parameter in operation.parameters.items()]
    if "{token}" in operation.path:
        parameters.append(
            {
                "name": "token",
                "in": "path",
                "required": True,
                "description": "The lease's token, or its first digits.",
                "schema": {"type": "string", "pattern": PREFIX_PATTERN},
            }
        )
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": answers | {str(status): _response(_ERRORS[status], ErrorAnswer) for status in errors},
    }


def _parameter(name: str, parameter: Parameter) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": parameter.meaning,
        "schema": dict(parameter.schema),
    }


def _response(text: str, answer: type | None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"} if answer is None else {"$ref": _REF.format(name=answer.__name__)}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
