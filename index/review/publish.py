"""Publish a build that is there already, on conditions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from embedder.errors import PublishRefusedError
from index.gallery.store import Store
from index.maintenance.history import publish_checked
from index.review.labeled_queries import CURRENT, LabeledQueries

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublishCondition:
    """When a build is published.

    Attributes:
        queries: Measure the GAP.
        if_gap_at_least: Lowest GAP of the build; ``None`` for any.
        unless_worse_than: Build whose GAP it must reach, or :data:`CURRENT`; ``None`` for none.
    """

    queries: LabeledQueries
    if_gap_at_least: float | None = None
    unless_worse_than: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """A build that was published.

    Attributes:
        build_id: The build.
        before: The build that was published before; ``None`` where nothing was.
        gap: Its GAP, if there was a condition.
        compared_with: The build that it was compared with; ``None`` for none.
        compared_gap: The GAP of that build.
    """

    build_id: str
    before: str | None
    gap: float | None = None
    compared_with: str | None = None
    compared_gap: float | None = None


def publish(store: Store, build_id: str, condition: PublishCondition | None = None) -> Publication:
    """Publish a build after checking every byte of it, if it meets a condition.

    No other process writes to the store meanwhile, so what the build is compared with stays
    what it replaces.

    Args:
        store: The store.
        build_id: The build, published before or not.
        condition: By default none.

    Raises:
        PublishRefusedError: The build does not meet the condition.
        StoreBusyError: Another process writes to the store.
        ArtifactMissingError: There is no such build.
        ArtifactError: The build, or an embedder, cannot be trusted.
        CatalogError: There are no labeled queries, or none shows a landmark.
        GalleryError: The store cannot be written.
    """
    with store.writing():
        store.directory(build_id)
        publication = Publication(build_id, store.current())
        if condition is not None:
            publication = _check(store, publication, condition)
        publish_checked(store, build_id)
    return publication


def _check(store: Store, asked: Publication, condition: PublishCondition) -> Publication:
    """Return the publication with what was measured, or refuse it."""
    build_id, queries = asked.build_id, condition.queries
    least, other = condition.if_gap_at_least, condition.unless_worse_than
    if other == CURRENT:
        other = asked.before
        if other is None:
            _log.info("nothing is published yet that %s could be worse than", build_id)
    gap, other_gap = queries.gap(store, build_id), None
    by = f"on the queries of {queries.data.directory}"
    if least is not None and gap < least:
        raise PublishRefusedError(build_id, f"its GAP is {gap:.4f}, below {least:g}, {by}")
    if other is not None:
        other_gap = gap if other == build_id else queries.gap(store, other)
        if gap < other_gap:
            worse = f"its GAP is {gap:.4f}, and that of {other} is {other_gap:.4f}, {by}"
            raise PublishRefusedError(build_id, worse)
    return Publication(build_id, asked.before, gap, other, other_gap)
