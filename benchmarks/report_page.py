"""REPORT.md -> one HTML page that needs nothing beside it: pictures inlined, plain CSS, light and dark, no script.

markdown-it-py, the port of the reference implementation's JavaScript sibling, turns the markdown into tokens; this file
says what the page adds to them: anchors, tables that scroll, and pictures as SVG elements.
"""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from benchmarks.readme_check import anchor

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6672; --paper: #ffffff; --rule: #d9dee3; --shade: #f4f6f8;
  --link: #1257a0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #9aa5b1; --paper: #14181c; --rule: #343b43; --shade: #1d2228; --link: #7db7f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; } h2 { margin-top: 3rem; padding-top: .6rem; border-top: 1px solid var(--rule); }
h3 { margin-top: 2rem; } a { color: var(--link); } p, li { max-width: 60rem; }
code { background: var(--shade); border-radius: 4px; padding: .1em .3em; font-size: .88em; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--rule); border-radius: 6px; }
table { border-collapse: collapse; font-size: .86rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
tr:last-child td { border-bottom: 0; } th { background: var(--shade); } td { min-width: 4rem; }
figure { margin: 1.25rem 0; background: #ffffff; border: 1px solid var(--rule); border-radius: 6px; padding: .75rem;
  overflow-x: auto; }
figure svg { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { color: #5b6672; font-size: .85rem; }
@media print { .scroll { overflow: visible; } h2 { break-before: page; } }
"""


class _Renderer(RendererHTML):
    """HTML with what the page adds; `env['folder']` is where links of pictures begin."""

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """A heading that can be linked to."""
        tokens[idx].attrSet("id", anchor(tokens[idx + 1].content.replace("`", "")))
        return self.renderToken(tokens, idx, options, env)

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """A table wider than the page scrolls by itself."""
        return '<div class="scroll" tabindex="0">' + self.renderToken(tokens, idx, options, env)

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """The end of both."""
        return self.renderToken(tokens, idx, options, env).rstrip() + "</div>\n"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """The picture itself."""
        path = Path(env["folder"]) / str(tokens[idx].attrGet("src"))
        caption = html.escape(tokens[idx].content)
        return f"</p><figure>{inlined(path, tokens[idx].content)}<figcaption>{caption}</figcaption></figure><p>"


def page(markdown: str, folder: Path) -> str:
    """The whole page.

    Args:
        markdown: of the report; its pictures are SVG files.
        folder: where links of pictures begin.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    body = parser.render(markdown, {"folder": str(folder)}).replace("<p></p>\n", "").replace("<p></p>", "")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Two-tower retrieval: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def inlined(path: Path, said: str) -> str:
    """An SVG file as an element of a page: without its prologue, its names made its own, and said aloud by readers.

    Args:
        path: of the file.
        said: what it shows.
    """
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    mark = re.sub(r"\W", "-", path.stem)
    text = re.sub(r'\bid="', f'id="{mark}-', text)
    text = re.sub(r'href="#', f'href="#{mark}-', text).replace("url(#", f"url(#{mark}-")
    # Matplotlib's rule for all elements would hold for the page's as well.
    text = text.replace("*{stroke", f".{mark} *{{stroke")
    return text.replace("<svg", f'<svg class="{mark}" role="img" aria-label="{html.escape(said)}"', 1).strip()
