"""Start, hot reload, stop.

It knows nothing of single requests.
"""
