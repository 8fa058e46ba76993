"""Defaults of a build. Light: the help of the command line shows them."""

BATCH_PICTURES = 16
"""Pictures per batch of the network."""
