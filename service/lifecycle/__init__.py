"""Start, prefetch, hot reload, shutdown.

It must not know single requests.
"""
