"""Start the demo's service in the background, ask it about one picture, and stop it later.

``make demo`` runs the stages as plain commands; what is left is here, with nothing but the
standard library, so that ``make demo-stop`` works before anything is installed::

    python demo.py start --store STORE --embedder EMBEDDER --data DIR --state .demo
    python demo.py stop --state .demo
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 120
STOP_SECONDS = 30

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # our own service


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Start or stop the service of `make demo`.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="serve a gallery and ask about one picture")
    start.add_argument("--store", type=Path, required=True)
    start.add_argument("--embedder", type=Path, required=True)
    start.add_argument("--data", type=Path, required=True, help="where the picture is taken from")
    start.add_argument("--state", type=Path, required=True, help="folder of pid file and log")
    start.add_argument("--port", type=int, default=8000, help="another is taken if it is not free")
    start.set_defaults(run=_start)
    stop = commands.add_parser("stop", help="stop what was started")
    stop.add_argument("--state", type=Path, required=True)
    stop.set_defaults(run=lambda options: _stop(options.state))
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


def _start(options: argparse.Namespace) -> int:
    _stop(options.state)
    pictures = _pictures_of(options.data)
    port = _free_port(options.port)
    address = f"http://127.0.0.1:{port}"
    options.state.mkdir(parents=True, exist_ok=True)
    log = options.state / "service.log"
    command = [str(Path(sys.executable).with_name("cairn-serve")), "--port", str(port)]
    command += ["--store", str(options.store), "--embedder", str(options.embedder)]
    _say(f"Starting {' '.join(command)}")
    with log.open("wb") as output:
        # A session of its own: the service outlives make and the terminal.
        service = subprocess.Popen(  # noqa: S603 (our own command)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (options.state / "service.pid").write_text(f"{service.pid}\n")
    if not _wait_until_ready(service, address):
        _say(f"The service did not become ready; {log} ends with:")
        _say("\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        _stop(options.state)
        return 1
    asked = ((picture, shown, _ask(address, picture)) for picture, shown in pictures)
    picture, truth, answer = next((one for one in asked if one[2]), (None, "", None))
    if answer is None:
        _say("None of the pictures could be read, so none was asked about.")
        _stop(options.state)
        return 1
    _say(f"\nAsked about   {picture}")
    _say(f"It shows      {truth}")
    _say(f"The answer    {json.dumps(answer, ensure_ascii=False)}")
    _say(f"The service   {address}/predict   (its log: {log})")
    _say(f"In a browser  {address}/")
    _say(f"Ask yourself  curl --data-binary {shlex.quote(f'@{picture}')} {address}/predict")
    _say("Stop it       make demo-stop")
    return 0


def _stop(state: Path) -> int:
    """Stop the service that the pid file names, if it is still that service."""
    file = state / "service.pid"
    if not file.is_file():
        return 0
    pid = int(file.read_text())
    if _is_service(pid):
        _say(f"Stopping the service (process {pid})")
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_service(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        if _is_service(pid):
            os.kill(pid, signal.SIGKILL)
    file.unlink()
    return 0


def _is_service(pid: int) -> bool:
    """Tell whether a process is alive and a service of ours: numbers of processes come again."""
    if Path("/proc/self/cmdline").exists():
        try:
            return b"cairn-serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    listed = ["ps", "-o", "args=", "-p", str(pid)]
    answer = subprocess.run(listed, capture_output=True, text=True, check=False)  # noqa: S603 (ours)
    return "cairn-serve" in answer.stdout


def _pictures_of(data: Path) -> Iterator[tuple[Path, str]]:
    """Yield pictures to ask about, and what they show, until one of them can be read.

    Labeled queries that are not in the gallery itself first, then the gallery from its end.
    """
    from photographs import open_data

    photographs = open_data(data)
    names = photographs.names()
    if photographs.layout == "gldv2":
        for query in photographs.queries():
            if query.landmark_ids:
                landmark = query.landmark_ids[0]
                yield query.path, f"{names.get(landmark, '?')} ({landmark})"
    for photograph in reversed(photographs.gallery()):
        landmark = photograph.landmark_id or "?"
        shown = f"{names.get(landmark, '?')} ({landmark}), a picture of the gallery itself"
        yield photograph.path, shown


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                _say(f"Port {port} is taken, so another one is used")
                continue
            free: int = probe.getsockname()[1]
            return free
    message = "no port is free"
    raise OSError(message)


def _wait_until_ready(service: subprocess.Popen[bytes], address: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while service.poll() is None and time.monotonic() < deadline:
        try:
            with _DIRECTLY.open(f"{address}/readyz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            if b"is refused" in error.read():  # it would wait for another embedder or gallery
                return False
            time.sleep(0.2)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _ask(address: str, picture: Path) -> object | None:
    """Post a picture; return the answer, or None for a picture that the service refuses."""
    request = urllib.request.Request(  # noqa: S310 (our own http)
        f"{address}/predict",
        data=picture.read_bytes(),
        headers={"Content-Type": "application/octet-stream"},
    )
    try:
        with _DIRECTLY.open(request, timeout=60) as response:
            answer: object = json.load(response)
    except urllib.error.HTTPError as error:
        _say(f"{picture} was refused: {json.load(error).get('detail')}")
        return None
    return answer


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
