"""mosec around the service's own stages: two processes, each with all of them.

    python benchmarks/peer_mosec.py --port N

A batch of 4 after at most 3 ms was the best of those tried.
"""

import argparse
import sys

from mosec import Server, Worker
from peer_stages import Stages

PROCESSES, BATCH, WAIT_MS = 2, 4, 3


class Recognizing(Worker):  # type: ignore[misc] # mosec is not installed where types are checked
    """One process."""

    def __init__(self) -> None:
        super().__init__()
        self._stages = Stages()

    def deserialize(self, data: bytes) -> bytes:
        """Leave the body as it is."""
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        """Answer a batch."""
        return self._stages.answer(data)

    def serialize(self, data: bytes) -> bytes:
        """Leave the answer as it is."""
        return data


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", required=True)
    options = parser.parse_args()
    sys.argv[1:] = ["--port", options.port, "--address", "127.0.0.1", "--timeout", "60000"]
    server = Server()
    server.append_worker(
        Recognizing, num=PROCESSES, max_batch_size=BATCH, max_wait_time=WAIT_MS, route="/predict"
    )
    server.run()


if __name__ == "__main__":
    main()
