"""Make galleries out of photographs: sources, embedding pipeline, journal, recall.

It knows nothing of judging and maintaining them.
"""
