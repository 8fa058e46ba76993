"""The contract between the three stages: what an embedder is, and how to run one.

An *embedder* turns the bytes of a picture into a unit vector. It is a directory of files
(:mod:`embedder.manifest`) that is checked against golden vectors when it is opened
(:mod:`embedder.embedder`). This package knows nothing of training, galleries or HTTP.
"""
