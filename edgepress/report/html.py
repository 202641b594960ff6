"""A document as one HTML file: no script, no other file, no network; for the screen, for paper, for a screen reader."""

from __future__ import annotations

import re
from html import escape

from edgepress.report.blocks import (
    Block,
    Code,
    Document,
    Figure,
    Gallery,
    GalleryPicture,
    Listing,
    Path,
    Section,
    Step,
    Table,
    Text,
)
from edgepress.report.style import STYLE

# If anything ever slips through the escaping, nothing runs and nothing is fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_SIGNS = {"pass": "\N{CHECK MARK}", "fail": "\N{BALLOT X}"}


def to_html(document: Document) -> str:
    """The whole file."""
    verdict = ""
    if document.headline or document.verdict:
        sign = _SIGNS.get(document.verdict, "\N{HORIZONTAL ELLIPSIS}")
        # The word gives the verdict; colour and sign only repeat it.
        word = f'<p class="word"><span aria-hidden="true">{sign}</span> {escape(document.verdict.upper())}</p>'
        lines = "".join(f"<p>{escape(line)}</p>" for line in document.headline)
        kind = document.verdict if document.verdict in _SIGNS else "open"
        verdict = f'<div class="verdict {kind}">{word if document.verdict else ""}{lines}</div>'
    links = "".join(f'<li><a href="#{_anchor(one.title)}">{escape(one.title)}</a></li>' for one in document.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(document.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header><h1>{escape(document.title)}</h1>{verdict}</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main id="main">
{"".join(map(_section, document.sections))}</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    name = _anchor(section.title)
    blocks = "".join(map(_block, section.blocks))
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(section.title)}</h2>\n{blocks}</section>\n'


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>\n"
    if isinstance(block, Listing):
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>\n"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        # The plot is one picture to a screen reader; a table has the numbers.
        picture = f'<div class="plot" role="img" aria-label="{escape(block.alt)}">{block.svg}</div>'
        return f"<figure>{picture}<figcaption>{escape(block.caption)}</figcaption></figure>\n"
    if isinstance(block, Path):
        return f'<ol class="path">{"".join(map(_step, block.steps))}</ol>\n'
    if isinstance(block, Gallery):
        return f'<ul class="gallery">{"".join(map(_picture, block.pictures))}</ul>\n'
    return _code(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_aligned(table, name)}>{escape(name)}</th>' for name in table.columns)
    rows = []
    for name, *cells in table.rows:
        numbers = zip(table.columns[1:], cells, strict=True)
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th>'
            + "".join(f"<td{_aligned(table, column)}>{escape(cell)}</td>" for column, cell in numbers)
            + "</tr>"
        )
    caption = escape(table.caption)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    # A table wider than a telephone scrolls by itself, also with the arrow keys.
    region = f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>'
    if table.folded:
        return f"<details><summary>{caption}</summary>{region}{body}</details>\n"
    # It is outside the scrolling part, so it can be read without scrolling.
    return f'<p class="caption">{caption}</p>{region}{body}\n'


def _aligned(table: Table, column: str) -> str:
    return "" if column == table.columns[0] or column in table.words else ' class="number"'


def _step(step: Step) -> str:
    lines = "".join(f"<span>{escape(line)}</span>" for line in step.lines)
    return f"<li><strong>{escape(step.name)}</strong>{lines}</li>"


def _picture(picture: GalleryPicture) -> str:
    source = f"data:image/jpeg;base64,{escape(picture.jpeg)}"
    facts = "".join(f"<p><b>{escape(name)}:</b> {escape(fact)}</p>" for name, fact in picture.facts)
    return f'<li><img src="{source}" alt="{escape(picture.alt)}"><h3>{escape(picture.name)}</h3>{facts}</li>'


def _code(code: Code) -> str:
    caption = escape(code.caption)
    text = f'<pre tabindex="0" aria-label="{caption}"><code>{escape(code.text)}</code></pre>'
    if code.text.count("\n") < 8:
        return f"<p>{caption}</p>{text}\n"
    return f"<details><summary>{caption}</summary>{text}</details>\n"
