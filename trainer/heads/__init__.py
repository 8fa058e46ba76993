"""Heads: from embeddings and labels to the training loss; an embedder holds none.

They know nothing of pictures and steps.
"""

from trainer.heads.head import Head
from trainer.heads.make import make_head, set_class_counts

__all__ = ["Head", "make_head", "set_class_counts"]
