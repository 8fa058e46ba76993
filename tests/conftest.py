"""What every test may ask for."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedder.runtimes.threads import wait_passively
from tests.outgoing import sitecustomize as connections

wait_passively()  # before a test, or a program that it starts, loads torch or FAISS
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared among the workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]

_record = tempfile.NamedTemporaryFile(prefix="outgoing-")  # noqa: SIM115 (lasts as long as the tests)
os.environ[connections.RECORD] = _record.name
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(Path(connections.__file__).parent), os.environ.get("PYTHONPATH")))
)
connections.record_connections()


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let the programs that tests start hear of Ctrl-C.

    A shell that starts the tests in the background has them ignore it, and programs would take
    that over; of a handler they take over nothing.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _fail_if_outgoing(record: Path) -> None:
    if attempts := record.read_text():
        record.write_text("")
        pytest.fail(f"outgoing connections:\n{attempts}")


@pytest.fixture(scope="session", autouse=True)
def outgoing_record() -> Iterator[Path]:
    """Fail for what was tried after the last test, when the services were stopped."""
    record = Path(_record.name)
    yield record
    _fail_if_outgoing(record)


@pytest.fixture(autouse=True)
def outgoing(outgoing_record: Path) -> Iterator[Path]:
    """Fail each test in which a Python process tried to reach another machine."""
    yield outgoing_record
    _fail_if_outgoing(outgoing_record)


@pytest.fixture(scope="session")
def gldv2_mini() -> Path:
    """Give the folder of real photographs, or skip where it is absent."""
    folder = ROOT.parent / "shared" / "data" / "gldv2-mini"
    if not folder.is_dir():
        pytest.skip("the real photographs of gldv2-mini are not beside this checkout")
    return folder
