"""One normal form and one order of landmark ids and names; and the form that is searched in."""

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

_ACCENTS = re.compile("[\u0300-\u036f]+")

_STROKES = {"\u00f8": "o", "\u0142": "l", "\u0111": "d", "\u0131": "i"}
"""Letters with a stroke, or without their dot, which Unicode does not decompose."""


def normal_forms(texts: pa.StringArray) -> pa.StringArray:
    """Return the normal form (NFC) of each text; the same column where all are ASCII."""
    if pc.all(pc.string_is_ascii(texts)).as_py() is not False:
        return texts
    return pc.utf8_normalize(texts, form="NFC")


def landmark_order(landmark_id: str) -> tuple[int, int, str, str]:
    """Return the sort key of a landmark: numbers first, by value, then names.

    Compares digits as text, since an id may have more of them than ``int`` converts.

    >>> sorted(["100", "Hawa Mahal", "9", "Eiffel"], key=landmark_order)
    ['9', '100', 'Eiffel', 'Hawa Mahal']
    """
    if landmark_id.isascii() and landmark_id.isdigit():
        digits = landmark_id.lstrip("0")
        return 0, len(digits), digits, landmark_id
    return 1, 0, landmark_id, landmark_id


def search_form(text: str) -> str:
    r"""Remove the differences that a search for names ignores: case and accents.

    >>> search_form("S\u00e9 do Porto"), search_form("GRO\u00dfER"), search_form("\u00d8stre")
    ('se do porto', 'grosser', 'ostre')
    """
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()
    for letter, without in _STROKES.items():
        plain = plain.replace(letter, without)
    return plain
