"""Several processes that train one network together, each on its share of every batch.

``torchrun`` starts them; without it there is one process, and everything here does nothing. The
first process logs and writes the files. An error in one process stops all of them, and one of them
reports it.
"""

import datetime
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional

from embedder.errors import CairnError, DeviceError, TrainingError

T = TypeVar("T")

_TIMEOUT = datetime.timedelta(hours=2)
"""How long a process waits for the others, which may be preparing pictures."""

_PRECEDENCE_SECONDS = 0.5
"""So much later than the others the first process may fail and still be the one that reports."""

_REPORTING_SECONDS = 3
"""``torchrun`` ends all as soon as one has ended: so long the one that reports has to do so."""


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this process logs and writes for all."""
    return rank() == 0


def device() -> torch.device:
    """Return where this process computes: its own NVIDIA device, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) if dist.is_initialized() else 0)


def cores() -> int:
    """Return how many cores each process of this machine may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that ``torchrun`` started; without it, do nothing.

    Raises:
        TrainingError: Another process disappeared.
        DeviceError: There are more processes than NVIDIA devices.
        SystemExit: Another process has reported why all stop.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    shared, number, total = next(rendezvous("env://"))
    # Processes that torchrun has started anew must not find what the former ones have left.
    store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", shared)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    prefixed = PrefixStore("collectives", store)
    dist.init_process_group(
        backend, store=prefixed, rank=number, world_size=total, timeout=_TIMEOUT
    )
    try:
        _select_device()
        yield
    except BaseException as error:
        time.sleep(0 if number == 0 else _PRECEDENCE_SECONDS)
        if store.add("stopped", 1) > 1:
            time.sleep(_REPORTING_SECONDS)
            raise SystemExit(int(store.get("exit code"))) from error
        store.set("exit code", str(getattr(error, "exit_code", 1)))
        if _is_connection_error(error):
            raise TrainingError(
                "another process of this run disappeared; see its output, then continue by --resume"
            ) from error
        raise
    dist.destroy_process_group()


def _select_device() -> None:
    """Let this process use its own NVIDIA device, where there are any."""
    if torch.cuda.is_available():
        own, available = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= available:
            raise DeviceError(f"there are {available} NVIDIA devices here: start no more processes")
        torch.cuda.set_device(own)


def _is_connection_error(error: BaseException) -> bool:
    """Tell whether a collective operation failed because of another process."""
    if isinstance(error, CairnError) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share of a sequence; the shares differ by one item at most.

    Their lengths may be zero; joined in the order of the processes they are the whole.
    """
    return items[share_slice(len(items))]


def share_slice(total: int) -> slice:
    """Return where this process's share of so many items lies; see :func:`share`."""
    first, last = (total * number // size() for number in (rank(), rank() + 1))
    return slice(first, last)


def gather(item: T) -> list[T]:
    """Return what every process passed, in their order; it is pickled on the way.

    The processes trust each other: they are one program on machines of one owner.
    """
    if size() == 1:
        return [item]
    items: list[Any] = [None] * size()
    dist.all_gather_object(items, item)
    return items


def gather_tensors(rows: Tensor) -> Tensor:
    """Join tensors of the CPU along their first dimension, in the order of the processes.

    Their other dimensions are equal; of an empty one they do not matter.
    """
    if size() == 1:
        return rows
    shapes = gather(tuple(rows.shape))
    longest = max(shapes, key=lambda shape: shape[0])
    padded = rows.new_zeros(longest)
    if len(rows):
        padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in shapes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: shape[0]] for part, shape in zip(parts, shapes, strict=True)])


def from_first(item: T) -> T:
    """Return what the first process passed."""
    return gather(item)[0]


def broadcast_parameters(module: nn.Module) -> None:
    """Give the parameters of a module the values they have in the first process."""
    if size() > 1:
        for parameter in module.parameters():
            dist.broadcast(parameter.detach(), src=0)


def gather_rows(rows: Tensor, numbers: Sequence[int]) -> Tensor:
    """Join the rows of all processes, in their order.

    Args:
        rows: ``(n, d)``, n as in ``numbers`` at this process's place.
        numbers: Rows of each process.

    Returns:
        ``(Σ numbers, d)``, equal in all processes. When each process computes the same loss of it,
        the mean over the processes of the gradients behind ``rows`` is the gradient of that loss:
        so :class:`torch.nn.parallel.DistributedDataParallel` may average.
    """
    if size() == 1:
        return rows
    padded = functional.pad(rows, (0, 0, 0, max(numbers) - len(rows)))
    parts = torch.distributed.nn.all_gather(padded)  # type: ignore[no-untyped-call]  # torch
    return torch.cat([part[:n] for part, n in zip(parts, numbers, strict=True)])


@contextmanager
def shared_rng(seed: int) -> Iterator[None]:
    """Draw the same random numbers in every process; afterwards each goes on with its own.

    A single process draws from its own throughout.
    """
    if size() == 1:
        yield
        return
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
