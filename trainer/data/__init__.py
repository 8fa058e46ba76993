"""Batches of training pictures: order, augmentation, loading.

It knows nothing of networks.
"""
