"""The version of this program, as it was installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Read the version of the installed distribution; ``0+unknown`` where it is not installed."""
    try:
        return version("cairn-landmarks")
    except PackageNotFoundError:  # run from a checkout
        return "0+unknown"
