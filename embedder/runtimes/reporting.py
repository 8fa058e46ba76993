"""Switches off what libraries report to their makers. Light: every command line imports it."""

import os
import sys


def report_nothing() -> None:
    """Keep libraries from sending usage statistics.

    OpenVINO posts to an analytics host when it is imported, with an id that it keeps in the home
    folder. Without the package ``openvino_telemetry`` it takes a stub of its own that sends
    nothing, and a name that is ``None`` in ``sys.modules`` counts as not installed.
    ``DO_NOT_TRACK`` is what the hub of pretrained weights heeds; subprocesses inherit it.

    Call it before any of these libraries is imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # see above
    os.environ.setdefault("DO_NOT_TRACK", "1")
