"""What clients rely on: the schemas of answers, and the format of API keys.

It must not know how an answer comes about.
"""
