"""LitServe around the service's own stages: two processes, each with all of them.

    python benchmarks/peer_litserve.py --port N

It reads forms and JSON only, so it gets a form. A batch of 4 was the best of those tried.
"""

import argparse
from collections.abc import Sequence

import litserve
from fastapi import Request, Response
from peer_stages import Stages

PROCESSES, BATCH, WAIT_SECONDS = 2, 4, 0.003


class Recognizing(litserve.LitAPI):  # type: ignore[misc] # it is not installed where types are checked
    """One process."""

    def setup(self, device: str) -> None:
        """Open what answers."""
        self._stages = Stages()

    def decode_request(self, request: Request) -> bytes:
        """Take the picture out of the form."""
        data: bytes = request["file"].file.read()
        return data

    def batch(self, inputs: Sequence[bytes]) -> list[bytes]:
        """Leave a batch as it is."""
        return list(inputs)

    def predict(self, x: list[bytes]) -> list[bytes]:
        """Answer a batch."""
        return self._stages.answer(x)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Leave the answers as they are."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Answer with what is JSON already."""
        return Response(output, media_type="application/json")


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    api = Recognizing(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=PROCESSES, timeout=60)
    server.run(port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
