"""The options of a build beside its photographs and its embedder."""

from dataclasses import dataclass

from index.building.extras import Extras
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions

_MAX_UNREADABLE, _FEW_PICTURES = 0.01, 5


@dataclass(frozen=True, slots=True)
class BuildRecipe:
    """The options of a build.

    Attributes:
        list_name: List of the data folder that is the gallery; by default
            :meth:`photographs.PhotographSet.default_list`.
        max_unreadable: Share of the pictures that are read, new and changed ones, that may be
            unreadable, in [0, 1]; by default 0.01, or five pictures if that is more.
        pipeline: Batch size and threads.
        extras: Ranking, distractors and calibration; by default those of the gallery that is
            rebuilt, or the ranking that the embedder advises.
        kind: Kind of gallery, as :func:`index.search.kinds.resolve` takes it; by default the
            kind that was asked for when the gallery was built, or ``auto``.
        min_recall: Lowest recall@1 that may be published, in [0, 1]; by default any.
        thumbnail_side: Longest side of thumbnails in pixels, 0 for none; by default that of the
            gallery that is rebuilt.
        no_publish: Leave the new build unpublished, to be judged first.
    """

    list_name: str | None = None
    max_unreadable: float | None = None
    pipeline: PipelineOptions = DEFAULT_OPTIONS
    extras: Extras | None = None
    kind: str | None = None
    min_recall: float | None = None
    thumbnail_side: int | None = None
    no_publish: bool = False

    def limit(self, total: int) -> float:
        """Return the share of ``total`` pictures that may be unreadable."""
        if self.max_unreadable is not None:
            return self.max_unreadable
        return max(_MAX_UNREADABLE, _FEW_PICTURES / max(1, total))
