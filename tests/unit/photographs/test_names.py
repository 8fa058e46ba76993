"""One normal form of names, by text and by column."""

import unicodedata

import pyarrow as pa

from embedder.text import normal_form
from photographs.names import normal_forms

CHARACTERS = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]


def test_columns_and_texts_have_one_normal_form() -> None:
    """Arrow and Python agree on every character, composed and decomposed."""
    decomposed = [unicodedata.normalize("NFD", character) for character in CHARACTERS]
    for texts in (CHARACTERS, decomposed):
        column = normal_forms(pa.array(texts))
        assert column.to_pylist() == [normal_form(text) for text in texts]
    assert decomposed != CHARACTERS


def test_a_column_of_ascii_is_not_copied() -> None:
    """A million numbers cost a look at their bytes; an empty column is one of ASCII."""
    column = pa.array(["Hawa Mahal/1", "9"])
    assert normal_forms(column) is column
    assert normal_forms(pa.array([], pa.string())).to_pylist() == []
