"""Maintain a store: add, remove, roll back, delete old builds, verify.

It knows nothing of how pictures are embedded or searched.
"""
