"""What a run is asked to do: the schema of recipes, inheritance, overrides.

It imports no torch.
"""
