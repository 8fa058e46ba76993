"""Turns the bytes of pictures into answers, in batches.

It must not know HTTP: its errors have no status.
"""
