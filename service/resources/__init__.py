"""The cores and the memory that this process may use.

It knows nothing of what they are used for.
"""
