"""Hot reload: switches to a newly published gallery and embedder without dropping a request.

They are opened beside what serves, verified and warmed up, and only then switched to. What cannot
be served is refused, and the previous pair serves on; ``/readyz`` and the metrics say so.
"""

import asyncio
import gc
import logging
import re

from embedder.errors import CairnError, DeviceError
from service.contract.schemas import Ready, Refusal
from service.inference.batcher import Batcher
from service.inference.errors import RequestRefusedError
from service.inference.recognizer import Recognizer
from service.lifecycle.published import Fingerprint, fingerprint, open_recognizer
from service.settings import Settings
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class ReloadRefusedError(RequestRefusedError):
    """What is published cannot be served; what was served before still is."""


class Reloader:
    """Switches to what is published.

    Args:
        settings: Where it is, and how it is run.
        batcher: What is switched.
        metrics: Counts the attempts.
        seen: The :func:`fingerprint` from before the batcher's recognizer was opened, so that
            what is published meanwhile is noticed.

    Attributes:
        refusal: What is published but not served, and why; None while it is served.
    """

    def __init__(
        self, settings: Settings, batcher: Batcher, metrics: Metrics, seen: Fingerprint
    ) -> None:
        self.refusal: Refusal | None = None
        self._settings = settings
        self._batcher = batcher
        self._metrics = metrics
        self._seen = seen
        self._lock = asyncio.Lock()

    async def follow(self) -> None:
        """Poll the store and the embedders, and reload what is new, until canceled."""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                if await asyncio.to_thread(fingerprint, self._settings) != self._seen:
                    await self.try_reload()
            except Exception:  # for example, no thread could be started: the next poll may succeed
                log.exception("could not look for a new gallery")

    async def try_reload(self) -> None:
        """Reload; where it is refused, the log and ``refusal`` have the reason."""
        try:
            await self.reload()
        except ReloadRefusedError as error:
            log.debug("%s", error)  # reload has logged the reason

    async def reload(self) -> Ready:
        """Switch to what is published, whether or not it is new.

        Returns:
            What answers from now on.

        Raises:
            ReloadRefusedError: It cannot be served; the previous pair serves on.
        """
        async with self._lock:
            self._seen = await asyncio.to_thread(fingerprint, self._settings)
            try:
                recognizer = await self._open()
            except Exception as error:  # whatever is wrong with the new pair, the old serves on
                raise self._refuse(error) from error
            self._batcher.switch(recognizer)
            gc.unfreeze()  # the first pair was frozen at the start, and shall be freed
            self.refusal = None
            self._metrics.refused.set(0)
            self._metrics.reloads.labels("switched").inc()
            ready = recognizer.describe()
            self._metrics.serve(ready)
            log.info("switched: %s", ready.model_dump_json(exclude_none=True))
            return ready

    async def _open(self) -> Recognizer:
        """Open what is published and warm it up.

        Raises:
            DeviceError: It runs on another device than the one that the cores are divided for.
        """
        old = self._batcher.recognizer
        new, pictures = await asyncio.to_thread(open_recognizer, self._settings, old)
        device, now = new.embedder.device, old.embedder.device
        if device != now:
            raise DeviceError(f"it runs on {device}, the service on {now}; restart the service")
        await self._batcher.warm(new, pictures)
        return new

    def _refuse(self, error: Exception) -> ReloadRefusedError:
        kind = type(error).__name__.removesuffix("Error")
        reason = re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()
        self.refusal = Refusal(gallery=self._seen.build, reason=reason)
        self._metrics.refused.set(1)
        self._metrics.reloads.labels("refused").inc()
        log.error(
            "refused %s, the previous pair serves on: %s",
            self._seen.build,
            error,
            exc_info=None if isinstance(error, CairnError) else error,
        )
        return ReloadRefusedError(
            f"the published pair is refused ({reason}), and the previous one serves on; "
            "the service's log has the cause"
        )
