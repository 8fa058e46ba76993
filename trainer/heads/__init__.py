"""Heads: from embeddings and labels to the training loss; an embedder holds none.

They know nothing of pictures and steps.
"""

from trainer.heads.head import Head
from trainer.heads.make import make_head, set_class_counts
from trainer.heads.transfer import take_known_landmarks

__all__ = ["Head", "make_head", "set_class_counts", "take_known_landmarks"]
