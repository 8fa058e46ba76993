"""Engines that find the nearest rows: FAISS on CPU and GPU, torch on GPU.

It knows vectors and row numbers, and neither pictures nor landmarks.
"""
