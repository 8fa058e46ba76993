"""Embed photographs and measure networks by the rules of galleries; find wrong labels.

It changes no weights.
"""
