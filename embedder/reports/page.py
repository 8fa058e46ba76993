"""Pages for people: one file of HTML that needs nothing else, in light and in dark.

Pictures are small JPEGs inside it, without their EXIF data. Every function returns HTML; what
comes from outside goes through :func:`text`.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from embedder.errors import PictureError
from embedder.preprocess import PictureLimits, read_file
from embedder.thumbnail import make_thumbnail

_SIDE = 168

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse } th, td { padding: .3rem .9rem .3rem 0; text-align: right }
th { font-weight: 600 } th:first-child, td:first-child { text-align: left }
tr { border-bottom: 1px solid var(--line) }
.row { display: flex; gap: .75rem; padding: 1rem 0; border-bottom: 1px solid var(--line);
  overflow-x: auto }
figure { margin: 0; width: 168px; flex: none; font-size: .8rem; overflow-wrap: anywhere }
.row figure:first-child { margin-right: 1rem }
img, .none { width: 168px; height: 168px; object-fit: cover; border-radius: 6px; display: block }
.none { border: 1px dashed var(--soft); color: var(--soft); display: grid; place-items: center }
b { font-weight: 600 } .soft { color: var(--soft) } .right img { outline: 3px solid #2a9d5c }
"""


def page(title: str, body: Iterable[str]) -> bytes:
    """Assemble a page.

    Args:
        title: Plain text, also the heading.
        body: HTML.

    Returns:
        The file.
    """
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{text(title)}</title><style>{_STYLE}</style><h1>{text(title)}</h1>"
    )
    return (head + "".join(body)).encode()


def figure(path: Path, caption: str, *, right: bool = False) -> str:
    """Render a picture.

    Args:
        path: Its file; a missing one is shown as missing.
        caption: HTML.
        right: Mark it as a correct answer.
    """
    try:
        thumbnail = make_thumbnail(read_file(path, PictureLimits()), _SIDE)
    except PictureError:
        thumbnail = None
    picture = "<div class=none>not there</div>"
    if thumbnail is not None:
        data = base64.b64encode(thumbnail).decode()
        picture = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    marked = " class=right" if right else ""
    return f"<figure{marked}>{picture}<figcaption>{caption}</figcaption></figure>"


def side_by_side(figures: Iterable[str]) -> str:
    """Lay figures out in a row, the first one a little apart."""
    return f"<div class=row>{''.join(figures)}</div>"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Render a table; the keys of the first row are its header."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{text(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{number(value)}</td>" for value in cells.values()) + "</tr>"
        for cells in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def number(value: object) -> str:
    """Format a value: four digits of a fraction, a dash for None.

    >>> number(0.5), number(3), number("<"), number(None)
    ('0.5000', '3', '&lt;', '–')
    """
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else text(str(value))


def text(plain: str) -> str:
    """Escape plain text."""
    return html.escape(plain)
