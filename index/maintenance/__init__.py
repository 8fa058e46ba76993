"""Take care of a store: remove, roll back, delete old builds, verify.

It embeds nothing but the sample that is verified.
"""
