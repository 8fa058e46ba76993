"""The training loop and all that it needs: step, state, schedule, run folder.

It knows nothing of artifacts.
"""
