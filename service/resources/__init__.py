"""The cores and the memory that this process may use.

It must not know what they are used for.
"""
