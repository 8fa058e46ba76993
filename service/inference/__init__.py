"""Turns the bytes of pictures into answers, in processes of their own.

It must not know HTTP, queues or the event loop: its errors have no status.
"""
