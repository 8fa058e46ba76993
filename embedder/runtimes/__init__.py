"""The engines that run a network, one module each, loaded only for the device asked for.

They know files of networks and arrays, and nothing of pictures or of what a vector means.
"""
