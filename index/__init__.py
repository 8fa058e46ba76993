"""The archive: a gallery of photographs in, a searchable gallery out.

A *gallery* is a read-only directory of vectors and a catalog, made by one embedder
(:mod:`index.gallery.gallery`); a *store* keeps the galleries that were built and names the
published one (:mod:`index.gallery.store`). This package knows nothing of training or HTTP.
"""
