"""From the bytes of pictures to answers, in batches.

It knows nothing of HTTP.
"""
