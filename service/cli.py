"""``cairn-serve``: parse, put together, serve; or make a key, or ask a service that runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.command_line import UNREAD, say

if TYPE_CHECKING:
    from embedder.errors import CairnError
    from service.contract.schemas import Answer

# Nothing heavy of the program is imported up here: --help must not wait for it.

_INTERRUPTED = 130
_UNREADABLE = 1  # exit code for a picture that cannot be read here

_FLAGS = (
    ("store", "DIR", "gallery store, made by cairn-index build"),
    ("embedder", "DIR", "embedder, made by cairn-train export, or a folder of several"),
    ("host", "ADDRESS", "address to listen on; 0.0.0.0 is all of this machine's (127.0.0.1)"),
    ("port", "N", "port to listen on; 0 takes a free one (8000)"),
    ("device", "DEVICE", "auto, cpu or cuda (auto)"),
    ("precision", "PRECISION", "auto, f32 or bf16 (auto)"),
    ("threads", "N", "cores for decoding, network and search; 0 is all there are for it (0)"),
    ("max-bytes", "N", "largest picture accepted, in bytes of its file (20971520)"),
    (
        "max-pixels",
        "N",
        "largest picture accepted, width x height; the memory holds one of them for each picture "
        "decoded at once, 21 bytes a pixel (64000000)",
    ),
    ("held-bytes", "N", "bytes of pictures held in memory at the same time (536870912)"),
    ("batch-pictures", "N", "most pictures of a batch; 0 is 4 on a CPU and 16 on a GPU (0)"),
    ("waiting-pictures", "N", "pictures that may wait before more are refused (64)"),
    ("deadline-seconds", "S", "time for the answer to a picture (10.0)"),
    ("receive-seconds", "S", "time for a client to send its request (60.0)"),
    ("max-pictures", "N", "pictures that one request to /predict/batch may hold (16)"),
    ("api-keys", "KEYS", "who may ask: NAME=sha256:..., between commas, or @FILE (none)"),
    ("admin-keys", "KEYS", "who may order a reload, likewise (none)"),
    ("origins", "ORIGINS", "web origins whose pages may ask, between commas, or * (none)"),
    ("poll-seconds", "S", "how often to look for a new gallery (2.0)"),
    ("stop-seconds", "N", "time for requests in flight to finish at a stop (20)"),
    ("log-level", "LEVEL", "debug, info, warning or error (info)"),
    ("log-format", "FORMAT", "json, text, or auto: text on a terminal (auto)"),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cairn-serve",
        description="Answer POST /predict with the landmark that a picture shows.",
        epilog="Every flag can be given as CAIRN_NAME in the environment instead "
        "(CAIRN_STORE, CAIRN_MAX_BYTES, ...); the flag wins. `cairn-serve key NAME` makes a key "
        "for --api-keys or --admin-keys; `cairn-serve predict PICTURE...` asks a running service.",
        argument_default=argparse.SUPPRESS,
    )
    for name, metavar, words in _FLAGS:
        parser.add_argument(f"--{name}", metavar=metavar, help=words)
    return parser


def _make_key(words: Sequence[str]) -> int:
    """Print a new key to stdout, once, and the entry to configure for it to stderr."""
    parser = argparse.ArgumentParser(prog="cairn-serve key", description=_make_key.__doc__)
    parser.add_argument("name", metavar="NAME", help="who will use it; appears in the log")
    name = parser.parse_args(words).name
    from service.contract.api_keys import digest_of, new_key, parse_keys

    key = new_key()
    entry = f"{name}={digest_of(key)}"
    try:
        parse_keys(entry)
    except ValueError:
        sys.stderr.write("cairn-serve key: a name has letters, digits, dots, dashes, at most 64\n")
        return 2
    end = say(key)
    sys.stderr.write(f"configure it as: {entry}\n")
    return end


def _predict(words: Sequence[str]) -> int:
    """Ask a running service about pictures; print a line of JSON for each that it answers."""
    parser = argparse.ArgumentParser(
        prog="cairn-serve predict",
        description=_predict.__doc__,
        epilog="A key is taken from the file, else from CAIRN_KEY in the environment. The exit "
        "code is that of the worst that befell a picture: 1 unreadable here, 10 refused, 11 busy, "
        "12 failed, 13 no answer.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="its file")
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="where the service is (default: %(default)s)",
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="holds the key to send")
    parser.add_argument(
        "-k", type=int, default=1, metavar="N", help="neighbors to tell of (default: %(default)s)"
    )
    parser.add_argument(
        "--at-once",
        type=_count,
        default=4,
        metavar="N",
        help="pictures asked about at the same time; the answers come in the order of the pictures "
        "all the same (default: %(default)s)",
    )
    asked = parser.parse_args(words)
    import asyncio

    try:
        return asyncio.run(_predict_all(asked))
    except BrokenPipeError:  # of stderr; for stdout say() has an exit code
        return UNREAD
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cairn-serve predict: {error}\n")
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it is 1 or more")
    return number


def _key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("CAIRN_KEY") or None
    return path.read_text(encoding="utf-8").strip()


async def _predict_all(asked: argparse.Namespace) -> int:
    """Ask about several pictures at a time, tell of each in turn; return the worst exit code."""
    import asyncio

    from embedder.errors import CairnError
    from service.client.client import AsyncClient

    turns = asyncio.Semaphore(asked.at_once)
    async with AsyncClient(asked.url, _key(asked.key_file)) as client:

        async def ask(picture: Path) -> Answer | CairnError | OSError:
            async with turns:
                try:
                    return await client.predict(picture, asked.k)
                except (CairnError, OSError) as error:
                    return error

        asking = [asyncio.ensure_future(ask(picture)) for picture in asked.pictures]
        worst = 0
        try:
            for picture, found in zip(asked.pictures, asking, strict=True):
                worst = max(worst, _tell(picture, await found))
                if worst == UNREAD:
                    break
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
    return worst


def _tell(picture: Path, found: Answer | CairnError | OSError) -> int:
    """Print the answer for a picture, or why there is none; return the exit code for it."""
    if isinstance(found, Exception):
        sys.stderr.write(f"cairn-serve predict: {picture}: {found}\n")
        return getattr(found, "exit_code", _UNREADABLE)
    return say(json.dumps({"picture": str(picture), **found.model_dump(mode="json")}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until it is told to stop; return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["key"]:
        return _make_key(words[1:])
    if words[:1] == ["predict"]:
        return _predict(words[1:])
    flags = vars(_parser().parse_args(words))
    from pydantic import ValidationError

    from embedder.errors import CairnError
    from service.settings import Settings, describe_faults

    try:
        settings = Settings(**flags)
    except ValidationError as error:
        sys.stderr.write(describe_faults(error) + "\n")
        return 2
    from embedder.runtimes.threads import wait_passively

    wait_passively()
    from service.app import create_app
    from service.lifecycle.server import listen, serve

    try:
        listener = listen(settings)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        sys.stderr.write(f"cairn-serve: cannot listen on {where}: {error.strerror}\n")
        return 1
    try:
        with listener:
            serve(create_app(settings), settings, listener)
    except CairnError as error:
        sys.stderr.write(f"cairn-serve: {error}\n")
        return error.exit_code
    return 0
