"""Ask a running service from Python: ``Client`` waits, ``AsyncClient`` is awaited.

It knows nothing of the server but its contract.
"""

from service.client.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
