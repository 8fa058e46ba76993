"""Run one command as a user types it, watched from outside: time, memory, bytes, what it says.

CPU time and bytes are those of the command and of all processes that it waited for, as the system
counts them. Memory is that of all its processes together, looked at about twice a second: what is
theirs alone (anonymous and shared memory), without pages of files, which the system may drop.
Linux only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commands import ROOT

Watch = Callable[[float, str], bool]
"""Gets each line on stderr with its second; whether the command shall be killed now."""

_LOOK_SECONDS, _LOOK_SHARE = 0.5, 0.02  # no more than that share of a core
_END_SECONDS = 30
_COLUMNS = 160


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        cpu_s: Of all its processes; of a killed one without those that it left behind.
        peak_gb: Most memory that its processes had together, without pages of files.
        read_gb: Bytes that it asked the system for, from the disk or not.
        written_gb: Bytes that it gave to the system.
    """

    seconds: float
    cpu_s: float
    peak_gb: float
    read_gb: float
    written_gb: float

    def rounded(self) -> dict[str, float]:
        """Return the figures by their names."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended.

    Attributes:
        usage: What it took.
        result: The JSON that it printed; empty where it was killed.
        log: All that it wrote to stderr.
        left_behind: Processes that still ran half a minute after it was killed.
    """

    usage: Usage
    result: dict[str, Any]
    log: str
    left_behind: int = 0


def run(
    words: Sequence[object], log: Path, watch: Watch | None = None, *, refusal: str | None = None
) -> Ended:
    """Run ``python WORDS...`` with its stderr on a terminal, to the end or until it is killed.

    Args:
        words: Of the command line.
        log: File for all that it writes to stderr.
        watch: Looks at each line and each state of a progress bar.
        refusal: Words of a refusal that is an end as good as any, then without a result.

    Raises:
        SystemExit: It failed; its last lines are told.
    """
    command = [sys.executable, *map(str, words)]
    print("$", *command[1:], file=sys.stderr)
    before, started = _counters(), time.monotonic()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, _COLUMNS, 0, 0))
    environment = os.environ | {"TQDM_MININTERVAL": "0", "TQDM_MINITERS": "1"}
    answer = log.with_suffix(".json")
    with answer.open("w") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink, stderr=theirs, env=environment
        )
    os.close(theirs)
    memory = _PeakMemory(process.pid)
    try:
        killed = _follow(process, ours, log, watch, started)
    except BaseException:
        process.kill()
        raise
    code, seconds = process.wait(), time.monotonic() - started
    family = memory.stop()
    cpu, read, written = (a - b for a, b in zip(_counters(), before, strict=True))
    text = log.read_text(encoding="utf-8")
    if code and not killed and (refusal is None or refusal not in text):
        raise SystemExit(f"{' '.join(command[1:])} ended with {code}; see {log}\n{text[-2000:]}")
    usage = Usage(seconds, cpu, memory.most / 1e9, read / 1e9, written / 1e9)
    left = _still_running(family) if killed else 0
    return Ended(usage, {} if killed else json.loads(answer.read_text() or "{}"), text, left)


def _follow(
    process: subprocess.Popen[bytes], terminal: int, log: Path, watch: Watch | None, started: float
) -> bool:
    """Copy stderr to the log until it is closed; return whether the command was killed."""
    killed = False
    with log.open("w", encoding="utf-8", buffering=1) as file:
        for line in _lines(terminal):
            file.write(f"{line}\n")
            if watch is not None and not killed and watch(time.monotonic() - started, line):
                process.send_signal(signal.SIGKILL)
                killed = True
                break  # what it leaves behind may hold the terminal
    os.close(terminal)
    return killed


def _lines(terminal: int) -> Iterator[str]:
    rest = b""
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the last process has closed it
            data = b""
        if not data:
            break
        *whole, rest = re.split(rb"[\r\n]+", rest + data)
        yield from (line.decode(errors="replace") for line in whole if line)
    if rest:
        yield rest.decode(errors="replace")


def _counters() -> tuple[float, int, int]:
    """Return CPU seconds, and bytes read and written, of all children that were waited for.

    The bytes are this process's own, too, which are few.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = Path("/proc/self/io").read_text().split()
    fields = dict(zip(lines[::2], lines[1::2], strict=True))
    return used.ru_utime + used.ru_stime, int(fields["rchar:"]), int(fields["wchar:"])


def family_of(pid: int) -> list[int]:
    """Return a process and those that come of it."""
    found = [pid]
    for process in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def own_memory(pids: Sequence[int]) -> int:
    """Return the bytes of memory of processes without pages of files, shared ones once."""
    return memory_of(pids, "Pss_Anon", "Pss_Shmem")


def memory_of(pids: Sequence[int], *kinds: str) -> int:
    """Return the bytes of memory of processes, of kinds that the kernel tells apart."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            fields = [line.split() for line in lines]
            total += sum(1024 * int(f[1]) for f in fields if f[0].removesuffix(":") in kinds)
    return total


class _PeakMemory:
    """Looks at the memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._family: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """Return the processes that were there at the last look."""
        self._ended.set()
        self._thread.join()
        return self._family

    def _look(self, pid: int) -> None:
        pause = _LOOK_SECONDS
        while not self._ended.wait(pause):
            started, family = time.thread_time(), family_of(pid)
            if memory := own_memory(family):
                self.most, self._family = max(self.most, memory), family
            pause = max(_LOOK_SECONDS, (time.thread_time() - started) / _LOOK_SHARE)


def _still_running(pids: Sequence[int]) -> int:
    """Count the processes that do not end in half a minute."""
    deadline = time.monotonic() + _END_SECONDS
    while (left := sum(map(_is_running, pids))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
