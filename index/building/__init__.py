"""Make galleries out of photographs: sources, row plan, embeddings in a cache, writer.

It knows nothing of evaluating and maintaining them.
"""
