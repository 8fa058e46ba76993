"""Clients of a running service: :class:`Client` blocks, :class:`AsyncClient` is for asyncio.

Their methods are the functions of :mod:`cairn_client.endpoints`; here is only what sends and waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from cairn_client import endpoints
from cairn_client.connection import address_of, headers_of, open_transport
from cairn_client.exchange import AnyClient, Attempt, Exchange, Found
from cairn_client.retry import Reply, RetryPolicy

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _waiting(
    ask: Callable[Concatenate[AnyClient, _P], Exchange[_T]],
) -> Callable[Concatenate[Client, _P], _T]:
    """Make a function of ``endpoints`` a method of :class:`Client`."""

    @wraps(ask)
    def method(client: Client, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return client._run(ask(client, *args, **kwargs))

    return method


def _awaiting(
    ask: Callable[Concatenate[AnyClient, _P], Exchange[_T]],
) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]]:
    """Make a function of ``endpoints`` a method of :class:`AsyncClient`."""

    @wraps(ask)
    async def method(client: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        read_files = partial(ask, client, *args, **kwargs)
        return await client._run(await asyncio.to_thread(read_files))

    return method


class Client(AnyClient):
    """Blocking client of a service; thread-safe.

    Retries while the service is full or not ready (429, 503), never before ``Retry-After``, and
    when no connection can be made; waits double and are randomized. A wait that exceeds the
    timeout is not begun: ``ServiceBusyError`` says when to come again.

    Args:
        url: Address of the service: ``http://host:port``, with a path if it is behind one.
        key: API key, sent as ``X-API-Key``; ``None`` sends none.
        timeout_seconds: For one call, all attempts and waits included. A server that sends the
            head of its response in ever more pieces can exceed it.
        retries: Attempts after the first.

    Raises:
        ValueError: The address, the key, one of the numbers, or the proxy that the environment
            names is invalid.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0, retries: int = 4
    ) -> None:
        policy, address = RetryPolicy(timeout_seconds, retries), address_of(url)
        transport = open_transport(httpx.HTTPTransport, address)
        self._http = httpx.Client(base_url=address, headers=headers_of(key), transport=transport)
        super().__init__(self._http, policy)

    predict = _waiting(endpoints.predict)
    predict_together = _waiting(endpoints.predict_together)
    predict_batch = _waiting(endpoints.predict_batch)
    verify = _waiting(endpoints.verify)
    verify_together = _waiting(endpoints.verify_together)
    embed = _waiting(endpoints.embed)
    landmarks = _waiting(endpoints.landmarks)
    picture = _waiting(endpoints.picture)
    ready = _waiting(endpoints.ready)
    alive = _waiting(endpoints.alive)
    metrics = _waiting(endpoints.metrics)
    reload = _waiting(endpoints.reload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def _run(self, exchange: Exchange[_T]) -> _T:
        try:
            attempt = next(exchange)
            while True:
                time.sleep(attempt.pause_seconds)
                attempt = exchange.send(self._send(attempt))
        except StopIteration as end:
            answer: _T = end.value
            return answer

    def _send(self, attempt: Attempt) -> Found:
        """Send once. httpx bounds each wait for bytes; their sum is checked here."""
        body, end = bytearray(), time.monotonic() + attempt.timeout_seconds
        try:
            with closing(self._http.send(attempt.request, stream=True)) as response:
                for piece in response.iter_bytes():
                    body += piece
                    if time.monotonic() >= end:
                        return httpx.ReadTimeout("timed out", request=attempt.request)
        except httpx.RequestError as error:
            return error
        return Reply(response.status_code, response.headers, bytes(body))


class AsyncClient(AnyClient):
    """:class:`Client` for asyncio, which describes the arguments; never exceeds the timeout."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0, retries: int = 4
    ) -> None:
        policy, address = RetryPolicy(timeout_seconds, retries), address_of(url)
        transport = open_transport(httpx.AsyncHTTPTransport, address)
        self._http = httpx.AsyncClient(
            base_url=address, headers=headers_of(key), transport=transport
        )
        super().__init__(self._http, policy)

    predict = _awaiting(endpoints.predict)
    predict_together = _awaiting(endpoints.predict_together)
    predict_batch = _awaiting(endpoints.predict_batch)
    verify = _awaiting(endpoints.verify)
    verify_together = _awaiting(endpoints.verify_together)
    embed = _awaiting(endpoints.embed)
    landmarks = _awaiting(endpoints.landmarks)
    picture = _awaiting(endpoints.picture)
    ready = _awaiting(endpoints.ready)
    alive = _awaiting(endpoints.alive)
    metrics = _awaiting(endpoints.metrics)
    reload = _awaiting(endpoints.reload)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def _run(self, exchange: Exchange[_T]) -> _T:
        try:
            attempt = next(exchange)
            while True:
                await asyncio.sleep(attempt.pause_seconds)
                attempt = exchange.send(await self._send(attempt))
        except StopIteration as end:
            answer: _T = end.value
            return answer

    async def _send(self, attempt: Attempt) -> Found:
        try:
            async with asyncio.timeout(attempt.timeout_seconds):
                response = await self._http.send(attempt.request)
        except httpx.RequestError as error:
            return error
        except TimeoutError:
            return httpx.ReadTimeout("timed out", request=attempt.request)
        return Reply(response.status_code, response.headers, response.content)
