"""Defaults of maintenance. Light: the help of the command line shows them."""

KEEP_BUILDS = 3
"""Newest builds that stay when old ones are deleted."""

IDLE_HOURS = 24.0
"""An unfinished build is abandoned when nothing was written for so long."""

SAMPLE_PICTURES = 64
"""Pictures that are embedded again when a build is verified."""
