"""How the log looks: a JSON object per line for machines, or a plain line for a terminal.

Every line that is logged while a request is answered has the request's id.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["auto", "json", "text"]

_FACTS = ("method", "path", "status", "milliseconds", "client", "peer")
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(correlation_id)s]: %(message)s"


def set_up_logging(level: str, form: LogFormat, *, answers_requests: bool = True) -> None:
    """Log to stderr.

    Args:
        level: Least severe message that is logged.
        form: ``auto`` is text on a terminal and JSON elsewhere.
        answers_requests: Whether this process does; the others need nothing that knows HTTP.
    """
    handler = logging.StreamHandler(sys.stderr)
    if form == "json" or (form == "auto" and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter(_TEXT, defaults={"correlation_id": "-"}))
    if answers_requests:
        from asgi_correlation_id import CorrelationIdFilter

        handler.addFilter(CorrelationIdFilter(default_value="-"))
    logging.basicConfig(handlers=[handler], level=level.upper())
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("asgi_correlation_id").setLevel(logging.ERROR)  # warns of each replaced id


class JsonFormatter(logging.Formatter):
    r"""One JSON object per record, on one line whatever the record holds.

    >>> facts = {"msg": "two\nlines", "name": "cairn", "correlation_id": "a1"}
    >>> record = logging.makeLogRecord(facts)
    >>> record.created, record.levelname = 0.0, "INFO"
    >>> print(JsonFormatter().format(record))  # doctest: +NORMALIZE_WHITESPACE
    {"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "logger": "cairn",
     "message": "two\nlines", "request_id": "a1"}
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        identity = vars(record).get("correlation_id", "-")
        if identity != "-":
            line["request_id"] = identity
        line |= {name: vars(record)[name] for name in _FACTS if vars(record).get(name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
