"""Defaults of calibration. Light: the help of the command line shows them."""

PRECISION_TARGET = 0.95
"""Share of the answers above the threshold that shall be right."""
