"""Clients that take a connection and then send nothing, or a header a minute, are let go.

Uvicorn waits for ever for the head of a request. A body is timed in :mod:`service.http.uploads`; a
connection without a request is closed by uvicorn's keep-alive timeout.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def protocol_for(seconds: float) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol, but with ``seconds`` for a client to send the head of a request.

    They begin with the connection, and again with the first byte after an answer.
    """

    class Protocol(HttpToolsProtocol):
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
            super().connection_made(transport)
            self._patience = self.loop.call_later(seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            if self._patience is None and (self.cycle is None or self.cycle.response_complete):
                self._patience = self.loop.call_later(seconds, self.transport.close)
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._be_patient()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._be_patient()
            super().connection_lost(exc)

        def _be_patient(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    return Protocol
