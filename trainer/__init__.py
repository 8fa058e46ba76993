"""The laboratory: photographs in, an embedder artifact out.

Each module is one stage or one part of the network; ``train.py`` is the method section.
"""
