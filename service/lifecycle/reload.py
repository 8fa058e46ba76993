"""Opens what is published, and switches to what is published later, without dropping a request.

A pair is opened beside what serves, verified and warmed up, and only then switched to. What cannot
be served is refused, and the previous pair serves on; ``/readyz`` and the metrics say so. Where
nothing serves yet, the service is not ready. What was refused is tried again: after a change, and
ever more seldom without one, since a file may only not be here yet.
"""

import asyncio
import contextlib
import gc
import logging
import re
import time

from embedder.errors import CairnError
from index.gallery.store import Store
from service.contract.schemas import Ready, Refusal
from service.dispatch.batcher import Batcher
from service.dispatch.pool import Pool
from service.inference.errors import RequestRefusedError
from service.inference.processes import Opening
from service.lifecycle.background_check import check_in_background
from service.lifecycle.fingerprint import Fingerprint, fingerprint
from service.resources.cores import divide_cores
from service.resources.memory import REST_BYTES, available_bytes
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 300.0


class ReloadRefusedError(RequestRefusedError):
    """What is published cannot be served; what was served before still is."""


class Reloader:
    """Switches to what is published.

    Args:
        settings: Where it is, and how it is run.
        batcher: What is switched.
        metrics: Counts the attempts.

    Attributes:
        refusal: What is published but not served, and why; None while it is served.
        opened: Set once something serves.
    """

    def __init__(self, settings: Settings, batcher: Batcher, metrics: Metrics) -> None:
        self.refusal: Refusal | None = None
        self.opened = asyncio.Event()
        self._settings = settings
        self._batcher = batcher
        self._metrics = metrics
        self._seen: Fingerprint | None = None
        self._lock = asyncio.Lock()
        self._pause_seconds = settings.poll_seconds
        self._retry_at = 0.0
        self._logged = ""
        self._checking: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Open what is published; poll the store and the embedders, and reload what is new."""
        try:
            while True:
                try:
                    await self._look()
                except Exception:  # for example, no thread could be started
                    log.exception("could not look for a new gallery")
                await asyncio.sleep(self._settings.poll_seconds)
        finally:
            if self._checking is not None:
                self._checking.cancel()

    async def _look(self) -> None:
        found = await asyncio.to_thread(fingerprint, self._settings)
        pool = self._batcher.pool
        again = self.refusal is not None and time.monotonic() >= self._retry_at
        if found != self._seen or again or (pool is not None and pool.broken):
            await self.try_reload()

    async def try_reload(self) -> None:
        """Reload; where it is refused, the log and ``refusal`` have the reason."""
        with contextlib.suppress(ReloadRefusedError):
            await self.reload()

    async def reload(self) -> Ready:
        """Switch to what is published, whether or not it is new.

        Returns:
            What answers from now on.

        Raises:
            ReloadRefusedError: It cannot be served; the previous pair serves on.
        """
        async with self._lock:
            self._seen = await asyncio.to_thread(fingerprint, self._settings)
            deep = self.opened.is_set()  # later there is time, and what was damaged may still be
            try:
                pool = await Pool.open(self._opening(self._seen.build or None), deep=deep)
            except Exception as error:  # whatever is wrong with the new pair, the old serves on
                raise self._refuse(self._seen.build, error) from error
            self.refusal = None
            self._pause_seconds, self._logged = self._settings.poll_seconds, ""
            self._metrics.refused.set(0)
            self._switch(pool)
            if deep:
                pool.expect_memory()  # it was checked, hence read
            else:
                self._checking = asyncio.ensure_future(self._check(pool))
            return pool.ready

    def _opening(self, build: str | None) -> Opening:
        settings = self._settings
        return Opening(
            store=settings.store,
            embedder=settings.embedder,
            build=build,
            device=settings.device,
            precision=settings.precision,
            cores=divide_cores(settings.threads),
            room_bytes=available_bytes() - settings.held_bytes - REST_BYTES,
            batch=settings.batch_pictures,
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            log_level=settings.log_level,
            log_format=settings.log_format,
        )

    def _switch(self, pool: Pool) -> None:
        self._batcher.switch(pool)
        ready = pool.ready
        self._metrics.reloads.labels("switched").inc()
        self._metrics.serve(ready)
        word = "switched" if self.opened.is_set() else "ready"
        log.info("%s: %s", word, ready.model_dump_json(exclude_none=True))
        if ready.precision != ready.gallery_precision:
            log.warning(
                "queries are embedded in %s, the gallery was in %s",
                ready.precision,
                ready.gallery_precision,
            )
        if not self.opened.is_set():
            self.opened.set()
            gc.collect()
            gc.freeze()  # what is there now stays: looking through it would stop the event loop

    def _refuse(self, build: str, error: Exception) -> ReloadRefusedError:
        kind = type(error).__name__.removesuffix("Error")
        reason = re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()
        self.refusal = Refusal(gallery=build, reason=reason)
        self._metrics.refused.set(1)
        self._metrics.reloads.labels("refused").inc()
        self._retry_at = time.monotonic() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        stays = "the previous pair serves on" if self._batcher.pool else "nothing serves"
        words = f"refused {build or 'the store'}, {stays}: {error}"
        if words != self._logged:
            self._logged = words
            log.error("%s", words, exc_info=None if isinstance(error, CairnError) else error)
        return ReloadRefusedError(
            f"the published pair is refused ({reason}), and {stays}; "
            "the service's log has the cause"
        )

    # A build that turns out to be damaged while it serves.

    async def _check(self, pool: Pool) -> None:
        try:
            await check_in_background(pool, self._batcher)
        except CairnError as error:
            async with self._lock:
                if self._batcher.pool is pool:
                    self._refuse(pool.opened.build, error)
                    await self._bring_back(pool.opened.build)

    async def _bring_back(self, damaged: str) -> None:
        """Serve the newest build before a damaged one that can be; nothing where there is none."""
        builds = await asyncio.to_thread(Store(self._settings.store).build_ids)
        for build in reversed([build for build in builds if build < damaged]):
            try:
                pool = await Pool.open(self._opening(build), deep=True)
            except Exception as error:  # whatever is wrong with it, another may be whole
                log.warning("the build %s cannot be brought back: %s", build, error)
                continue
            self._switch(pool)
            return
        self._batcher.switch(None)
