"""Everything an operator can choose, read once and handed on.

A setting comes from a flag of ``cairn-serve``, else from the environment with the prefix
``CAIRN_``, else from its default. Nothing else of the server looks at the environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.contract.api_keys import OFF, parse_keys

PREFIX = "CAIRN_"

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def keys_that_parse(text: str) -> str:
    """Return ``text`` if it lists keys.

    Raises:
        ValueError: It does not.
    """
    parse_keys(text)
    return text


KeyList = Annotated[str, AfterValidator(keys_that_parse)]


class Settings(BaseSettings):
    """What one service runs with.

    Attributes:
        store: The gallery store, made by ``cairn-index build``.
        embedder: The embedder artifact, made by ``cairn-train export``.
        host: Address to listen on; ``0.0.0.0`` is every one this machine has.
        port: Port to listen on; 0 takes a free one.
        device: Where the network runs; ``auto`` is an NVIDIA GPU if there is one.
        precision: Numbers the network computes with; ``auto`` is bf16 where it agrees.
        threads: Cores for decoding, the network and the search together; 0 is all that this
            process may use.
        max_bytes: Largest picture accepted, in bytes of its file.
        max_pixels: Largest picture accepted, width × height; no more pictures are decoded at once
            than the memory holds of that size, whatever ``threads`` is.
        held_bytes: What the pictures of all requests under way may come to in memory.
        batch_pictures: Most pictures of a batch; 0 is 4 on a CPU, which is no faster with more,
            and 16 on a GPU.
        waiting_pictures: Pictures that may wait; one more is refused with 429 or 503.
        deadline_seconds: How long a picture may wait for its answer.
        receive_seconds: How long a client may take to send a request.
        max_pictures: Pictures that one request to ``/predict/batch`` may hold.
        api_keys: Digests of the keys that may ask, ``none`` for everyone; see
            :func:`service.contract.api_keys.parse_keys`.
        admin_keys: Likewise, of the keys that may order a reload; ``none`` is nobody.
        origins: Web origins whose pages may ask, between commas; ``none``, or ``*`` for all.
        poll_seconds: How often the store is looked at for something new.
        stop_seconds: How long requests in flight may take to finish at a stop.
        log_level: Least severe message that is logged.
        log_format: ``auto`` is text on a terminal and JSON elsewhere.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    store: Path
    embedder: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "f32", "bf16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    max_bytes: PositiveInt = 20 << 20
    max_pixels: PositiveInt = 64_000_000
    held_bytes: PositiveInt = 512 << 20
    batch_pictures: Annotated[int, Field(ge=0, le=256)] = 0
    waiting_pictures: PositiveInt = 64
    deadline_seconds: PositiveFloat = 10.0
    receive_seconds: PositiveFloat = 60.0
    max_pictures: Annotated[int, Field(gt=0, le=1000)] = 16
    api_keys: KeyList = OFF
    admin_keys: KeyList = OFF
    origins: str = OFF
    poll_seconds: PositiveFloat = 2.0
    stop_seconds: PositiveInt = 20
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"


def describe_faults(error: ValidationError) -> str:
    """Say in words, a line each, what is wrong with the settings.

    >>> try:
    ...     Settings(store="gallery", embedder="network", port=99999)
    ... except ValidationError as error:
    ...     print(describe_faults(error))
    --port (CAIRN_PORT): Input should be less than or equal to 65535
    """
    lines = []
    for fault in error.errors():
        field = str(fault["loc"][0])
        lines.append(f"--{field.replace('_', '-')} ({PREFIX}{field.upper()}): {fault['msg']}")
    return "\n".join(lines)


def unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    """Return the variables that look like settings and are none, so a slip is not silent.

    >>> unknown_variables({"CAIRN_PORT": "80", "CAIRN_MAX_BITES": "5", "PATH": "/bin"})
    ['CAIRN_MAX_BITES']
    """
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    known.add("CAIRN_KEY")  # that of `cairn-serve predict`
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
