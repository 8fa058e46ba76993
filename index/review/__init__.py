"""Look at builds before they are served: publish on conditions, compare, check, export vectors.

It changes nothing of a store but which build is published.
"""
