"""The command ``cairn-serve``: serve, make a key, or ask a running service.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from embedder.command_line import (
    BAD_USAGE,
    INTERRUPTED,
    UNREAD,
    Check,
    PositiveCount,
    command_app,
    print_line,
    run,
)
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    from cairn_client import Answer, ServiceError

_UNREADABLE = 1  # exit code for a picture that cannot be read here

app = command_app(
    "cairn-serve",
    "Answer POST /predict with the landmark that a picture shows.",
    env_prefix=PREFIX,
    epilogue="Every flag can be given as CAIRN_NAME in the environment instead "
    "(CAIRN_STORE, CAIRN_MAX_BYTES, ...); the flag wins.",
)


@app.default
def serve(settings: Settings) -> int:
    """Answer POST /predict with the landmark that a picture shows."""
    from service.app import create_app
    from service.lifecycle import server

    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in server.listen(settings)]
        server.serve(create_app(settings), settings, listeners)
    return 0


@app.command(config=Check())
def key(name: str, /) -> int:
    """Make a new key: the key to stdout, once; the entry to configure for it to stderr.

    Args:
        name: Who will use the key; appears in the log.
    """
    from service.contract.api_keys import digest_of, new_key, parse_keys

    secret = new_key()
    entry = f"{name}={digest_of(secret)}"
    try:
        parse_keys(entry)
    except ValueError:
        sys.stderr.write("cairn-serve key: a name has letters, digits, dots, dashes, at most 64\n")
        return BAD_USAGE
    exit_code = print_line(secret)
    sys.stderr.write(f"configure it as: {entry}\n")
    return exit_code


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Query:
    """How ``cairn-serve predict`` asks.

    Attributes:
        url: Where the service is.
        key_file: File that holds the key to send (default: CAIRN_KEY in the environment).
        k: Neighbors to return with each answer.
        at_once: Pictures asked about at the same time; answers are printed in the order of the
            pictures all the same.
    """

    url: Annotated[str, Parameter(metavar="URL")] = "http://127.0.0.1:8000"
    key_file: Path | None = None
    k: Annotated[int, Parameter(name="-k")] = 1
    at_once: PositiveCount = 4


@app.command(
    config=Check(),
    help_epilogue="The exit code is the highest that a picture caused: 1 unreadable here, "
    "10 refused, 11 busy, 12 failed, 13 no answer.",
)
def predict(
    pictures: Annotated[list[Path], Parameter(metavar="PICTURE...")],
    /,
    *,
    query: Query = Query(),
) -> int:
    """Ask a running service about pictures; print a line of JSON for each that it answers.

    Args:
        pictures: Files of pictures.
        query: Where and how to ask.
    """
    import asyncio

    try:
        return asyncio.run(_predict_all(pictures, query))
    except BrokenPipeError:  # of stderr; for stdout print_line() has an exit code
        return UNREAD
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cairn-serve predict: {error}\n")
        return BAD_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


async def _predict_all(pictures: Sequence[Path], query: Query) -> int:
    """Ask about several pictures at a time, print each answer in turn; return the worst code."""
    import asyncio

    from cairn_client import AsyncClient, ServiceError

    turns = asyncio.Semaphore(query.at_once)
    async with AsyncClient(query.url, _key(query.key_file)) as client:

        async def ask(picture: Path) -> Answer | ServiceError | OSError:
            async with turns:
                try:
                    return await client.predict(picture, query.k)
                except (ServiceError, OSError) as error:
                    return error

        asking = [asyncio.ensure_future(ask(picture)) for picture in pictures]
        worst = 0
        try:
            for picture, answered in zip(pictures, asking, strict=True):
                worst = max(worst, _print_answer(picture, await answered))
                if worst == UNREAD:
                    break
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
    return worst


def _key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("CAIRN_KEY") or None
    return path.read_text(encoding="utf-8").strip()


def _print_answer(picture: Path, answer: Answer | ServiceError | OSError) -> int:
    """Print the answer for a picture, or why there is none; return the exit code for it."""
    if isinstance(answer, Exception):
        sys.stderr.write(f"cairn-serve predict: {picture}: {answer}\n")
        return getattr(answer, "exit_code", _UNREADABLE)
    return print_line(json.dumps({"picture": str(picture), **asdict(answer)}))


def hear_stops() -> None:
    """End on SIGTERM from now on; the first process of a container would else ignore it."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    hear_stops()
    return run(app, arguments, logs=False)  # the server sets up its own
