"""From a trained network to an embedder artifact that is proved equal to it.

It trains nothing.
"""
