"""Processes that train one network together: shares, collectives, synchronized norms.

It knows nothing of what is trained.
"""
