"""Logs, metrics, request ids, and one record of each request.

It must not know what a picture or a gallery is.
"""
