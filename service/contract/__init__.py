"""The shapes of requests and answers that clients rely on.

It knows nothing of how an answer comes about.
"""
