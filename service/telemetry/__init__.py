"""Logs, metrics and request ids.

It knows nothing of pictures.
"""
