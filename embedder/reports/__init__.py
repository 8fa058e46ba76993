"""HTML pages in one self-contained file: figures, tables, line charts.

It knows nothing of what is reported.
"""
