"""Shows what is in a gallery: what needs no network and no search."""

import numpy as np

from index.gallery.gallery import Gallery
from service.contract.schemas import Landmark, Landmarks
from service.inference.errors import PictureUnknownError


class GalleryBrowser:
    """Looks up pictures and landmarks of an open gallery."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._landmarks = gallery.landmarks()  # looks at every row, where some were removed

    def thumbnail(self, picture: str, gallery: str | None) -> bytes:
        """Return a small JPEG of a picture of the gallery.

        Args:
            picture: Its id.
            gallery: The build that must be serving; None for any.

        Raises:
            PictureUnknownError: There is no such thumbnail, or another build serves.
        """
        if gallery not in (None, self.gallery.build_id):
            raise PictureUnknownError("that gallery is not the one that is served")
        thumbnail = self.gallery.thumbnail(picture)
        if thumbnail is None:
            raise PictureUnknownError("the gallery has no picture of this id to show")
        return thumbnail

    def landmarks(self, offset: int, limit: int, text: str | None) -> bytes:
        """List the landmarks of the gallery, as the JSON of :class:`Landmarks`.

        Args:
            offset: How many are skipped.
            limit: How many are returned at most.
            text: What their names hold, without regard to case and accents; ``None`` for all.
        """
        catalog, codes = self.gallery.catalog, self._landmarks
        if text is not None:
            named = catalog.search_names(text)
            codes = named[np.isin(named, codes)]
        page = Landmarks(
            gallery=self.gallery.build_id,
            total=len(codes),
            offset=offset,
            landmarks=tuple(
                Landmark(
                    landmark_id=catalog.landmark_id(code),
                    name=catalog.name(code),
                    url=catalog.link(code),
                )
                for code in codes[offset : offset + limit].tolist()
            ),
        )
        return page.model_dump_json().encode()
