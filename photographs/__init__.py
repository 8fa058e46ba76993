"""Photographs in: which there are, what they show, whose they are. Layouts open no picture.

It knows nothing of networks, galleries or HTTP.
"""

from photographs.gldv2 import listed_ids
from photographs.layouts import list_pictures, open_data
from photographs.lists import read_header, read_rows, write_csv, write_list
from photographs.names import landmark_order, search_form
from photographs.passed_over import NOTHING, PassedOver
from photographs.photograph import CREDIT_COLUMNS, Credit, Photograph, Query
from photographs.photograph_list import PhotographList
from photographs.photograph_set import Layout, PhotographSet
from photographs.query_list import QueryList

__all__ = [
    "CREDIT_COLUMNS",
    "NOTHING",
    "Credit",
    "Layout",
    "PassedOver",
    "Photograph",
    "PhotographList",
    "PhotographSet",
    "Query",
    "QueryList",
    "landmark_order",
    "list_pictures",
    "listed_ids",
    "open_data",
    "read_header",
    "read_rows",
    "search_form",
    "write_csv",
    "write_list",
]
