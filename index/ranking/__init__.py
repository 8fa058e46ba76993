"""From neighbors to landmarks: top-1, vote, penalties, calibration; pure functions.

It knows arrays, and neither files nor engines.
"""
