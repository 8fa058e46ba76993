"""Ask a running Cairn service from Python: ``Client`` waits, ``AsyncClient`` is awaited.

::

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict(Path("hawa-mahal.jpg"))
        print(answer.landmark_id, answer.confidence)

Needs httpx only, and imports none of the program's other packages. Every failure is a
:class:`ServiceError`; fields that a newer service adds to its answers are ignored.
"""

from cairn_client.answers import (
    Alive,
    Answer,
    Credit,
    Embedding,
    Landmark,
    Landmarks,
    Neighbor,
    Outcome,
    Outcomes,
    ParameterFault,
    Problem,
    Ready,
    Refusal,
    Verification,
)
from cairn_client.client import AsyncClient, Client
from cairn_client.endpoints import GalleryPicture
from cairn_client.errors import (
    ServiceBusyError,
    ServiceError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceUnreachableError,
)

__all__ = [
    "Alive",
    "Answer",
    "AsyncClient",
    "Client",
    "Credit",
    "Embedding",
    "GalleryPicture",
    "Landmark",
    "Landmarks",
    "Neighbor",
    "Outcome",
    "Outcomes",
    "ParameterFault",
    "Problem",
    "Ready",
    "Refusal",
    "ServiceBusyError",
    "ServiceError",
    "ServiceFailedError",
    "ServiceRefusedError",
    "ServiceUnreachableError",
    "Verification",
]
