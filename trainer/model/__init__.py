"""The embedding network: backbone, pooling, neck, whitening, and the files of its weights.

It knows nothing of losses and steps.
"""
