"""The training loop and what it needs: run setup, batches, gradient step, state, model selection.

It knows nothing of embedder artifacts.
"""
