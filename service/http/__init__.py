"""HTTP: routes, uploads, API keys, problem documents, page files.

It knows nothing of threads, networks and vectors.
"""
