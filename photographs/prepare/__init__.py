"""Make one data folder out of another: smaller copies, subsets, splits.

It knows nothing of networks.
"""
