"""A route of FastAPI's whose requests go straight to its function.

FastAPI still makes the document from the signature. But for each request it solves the tree of
dependencies by looking at types and signatures again, and validates the answer that pydantic has
just made: with its share of the garbage, a third of what the front process did for a picture.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_args

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

Source = Callable[[Request], Awaitable[object]]


def direct_route(source: Source) -> type[APIRoute]:
    """Make a class of routes whose functions take two arguments.

    Args:
        source: Gives the first argument of a function for a request.

    Returns:
        Routes of functions of that argument and of ``query``, whose annotation names a model of
        the query's parameters; they return a model, or a response. Functions without ``query``
        are called as usual.
    """

    class DirectRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return what answers a request."""
            endpoint, parameters = self.endpoint, inspect.signature(self.endpoint).parameters
            if "query" not in parameters:
                return super().get_route_handler()
            model = get_args(parameters["query"].annotation)[0]

            async def answer(request: Request) -> Response:
                result = await endpoint(await source(request), read_query(model, request))
                if isinstance(result, Response):
                    return result
                return Response(result.model_dump_json(), media_type="application/json")

            return answer

    return DirectRoute


def read_query(model: type[BaseModel], request: Request) -> BaseModel:
    """Read the parameters of a query, as FastAPI does: of several values the last counts.

    Raises:
        RequestValidationError: One of them is wrong.
    """
    given = request.query_params
    values: dict[str, object] = {}
    for name, field in model.model_fields.items():
        if name in given:
            values[name] = given.getlist(name) if field.annotation == list[str] else given[name]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError(
            [{**fault, "loc": ("query", *fault["loc"])} for fault in faults]
        ) from error
