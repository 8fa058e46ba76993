"""Several processes that train one network together, each on its share of every batch.

``torchrun`` starts them; without it there is one process, and everything here is the identity.
The first process speaks, validates by name and writes the files. What stops one process stops all
of them, and one of them says why.
"""

from __future__ import annotations

import datetime
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from embedder.errors import CairnError, DeviceError, TrainingError

T = TypeVar("T")

_PATIENCE = datetime.timedelta(hours=2)
"""How long a process waits for the others, which may be preparing pictures."""

_PRECEDENCE_SECONDS = 0.5
"""By so much the first process may be later and still be the one that says what all have found."""

_LAST_WORDS_SECONDS = 3
"""``torchrun`` ends all as soon as one has ended: so long the one that says why has to say it."""


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this process speaks and writes for all."""
    return rank() == 0


def device() -> torch.device:
    """Return where this process computes: its own NVIDIA device, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) if dist.is_initialized() else 0)


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that ``torchrun`` started; without it, do nothing.

    Raises:
        TrainingError: Another process disappeared.
        DeviceError: There are more processes than NVIDIA devices.
        SystemExit: Another process has said why all stop.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    store, number, total = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    ours = PrefixStore("collectives", store)
    dist.init_process_group(backend, store=ours, rank=number, world_size=total, timeout=_PATIENCE)
    try:
        _take_device()
        yield
    except BaseException as error:
        time.sleep(0 if number == 0 else _PRECEDENCE_SECONDS)
        if store.add("stopped", 1) > 1:
            time.sleep(_LAST_WORDS_SECONDS)
            raise SystemExit(getattr(error, "exit_code", 1)) from error
        if _is_of_network(error):
            raise TrainingError(
                "another process of this run disappeared; see its output, then go on with --resume"
            ) from error
        raise
    dist.destroy_process_group()


def _take_device() -> None:
    """Let this process use its own NVIDIA device, where there are any."""
    if torch.cuda.is_available():
        mine, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if mine >= there:
            raise DeviceError(f"there are {there} NVIDIA devices here: start no more processes")
        torch.cuda.set_device(mine)


def _is_of_network(error: BaseException) -> bool:
    """Tell whether a collective operation failed because of another process."""
    if isinstance(error, CairnError) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's part of a sequence; the parts differ by one item at most.

    Their lengths may be zero; joined in the order of the processes they are the whole.
    """
    first, last = (len(items) * number // size() for number in (rank(), rank() + 1))
    return items[first:last]


def gather(item: T) -> list[T]:
    """Return what every process passed, in their order; it must be fit for pickling.

    The processes trust each other: they are one program on machines of one owner.
    """
    if size() == 1:
        return [item]
    items: list[Any] = [None] * size()
    dist.all_gather_object(items, item)
    return items


def of_first(item: T) -> T:
    """Return what the first process passed."""
    return gather(item)[0]


def align(module: nn.Module) -> None:
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
        ``(Σ numbers, d)``, alike everywhere. When each process computes the same loss of it, the
        mean over the processes of the gradients behind ``rows`` is the gradient of that loss: so
        :class:`torch.nn.parallel.DistributedDataParallel` may average.
    """
    if size() == 1:
        return rows
    joint: Tensor = _GatheredRows.apply(rows, numbers)
    return joint


class _GatheredRows(torch.autograd.Function):
    """Rows of all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, numbers: Sequence[int]) -> Tensor:  # noqa: ANN401 - torch's own type
        ends = list(itertools.accumulate(numbers, initial=0))
        ctx.own = slice(ends[rank()], ends[rank() + 1])
        padded = rows.new_zeros(max(numbers), rows.shape[1])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in numbers]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, numbers, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own type
        return gradient[ctx.own] * size(), None


def sum_everywhere(values: Tensor) -> Tensor:
    """Sum a tensor over the processes; the gradient is summed likewise."""
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        total = gradient.clone()
        dist.all_reduce(total)
        return total


@contextmanager
def same_chance(seed: int) -> Iterator[None]:
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
