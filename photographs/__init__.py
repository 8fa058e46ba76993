"""Photographs in: which there are, what they show, whose they are. Layouts open no picture.

It knows nothing of networks, galleries or HTTP.
"""

from photographs.layouts import (
    PICTURE_SUFFIXES,
    Credit,
    Photograph,
    PhotographSet,
    Query,
    landmark_order,
    list_pictures,
    listed_ids,
    open_data,
)

__all__ = [
    "PICTURE_SUFFIXES",
    "Credit",
    "Photograph",
    "PhotographSet",
    "Query",
    "landmark_order",
    "list_pictures",
    "listed_ids",
    "open_data",
]
