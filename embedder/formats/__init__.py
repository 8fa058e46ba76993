"""What a picture's file holds, read before a decoder sees it.

Decoders are given the parts that pixels need and nothing else, so metadata of any size or damage
is neither parsed nor a reason to refuse. Nothing here knows what a picture is used for.
"""
