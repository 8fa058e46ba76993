"""Judge networks by the rules that galleries serve; find labels that look wrong.

It changes no weight.
"""
