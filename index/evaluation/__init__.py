"""Judge a gallery by labeled queries, calibrate it, and write submissions.

It changes no gallery but for its calibration.
"""
