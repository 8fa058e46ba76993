"""Batches of training pictures: augmentation, loading, order.

It knows nothing of networks.
"""
