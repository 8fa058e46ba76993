"""Evaluate a gallery by labeled queries, calibrate it, and write submissions.

It changes nothing of a gallery but its calibration.
"""
