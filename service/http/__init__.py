"""HTTP: routes, uploads, problem documents, the OpenAPI document, the page's files.

It must not know threads, networks and vectors.
"""
