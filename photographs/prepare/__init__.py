"""Make one data folder out of another: smaller copies, subsets, folds.

It knows nothing of networks.
"""
