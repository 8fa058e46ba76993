"""Download Google Landmarks v2: lists, tars, md5 sums.

It knows addresses and files, and nothing of training or galleries.
"""
