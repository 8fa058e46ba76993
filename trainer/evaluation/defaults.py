"""Defaults of finding wrong labels. Light: the help of the command line shows them."""

MAX_ANGLE_DEGREES = 75.0
"""Pictures farther from the dominant sub-center are dropped; the value of the paper."""
