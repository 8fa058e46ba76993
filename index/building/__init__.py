"""Make galleries out of photographs: sources, row plan, journal of embedded shards, writer.

It knows nothing of evaluating and maintaining them.
"""
