"""Defaults of evaluation. Light: the help of the command line shows them."""

PRECISION_TARGET = 0.95
"""Share of the answers above the threshold that shall be right."""

RETRIEVED = 100
"""Pictures that are retrieved for each query; the score of a retrieval looks at no more."""

SHOWN_NEIGHBORS = 10
"""Neighbors that a search for one picture shows."""
