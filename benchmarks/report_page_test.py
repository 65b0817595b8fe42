"""The page opens without a network, and says what the markdown says."""

import re
from html.parser import HTMLParser

from benchmarks.report_page import inlined, page
from benchmarks.svg_figure import saved_figure

VOID = {"meta", "br", "hr", "img"}


TEXT = """# Report

* [A](#a-b)

## A: `b`

| x | y |
| --- | --- |
| 1 | <2 |

![One](one.svg)

![Two](two.svg)
"""


class _Balanced(HTMLParser):
    """Collects the tags that are open, and fails where one closes that is not."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.seen = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


def draw(path, height):
    with saved_figure(path, figsize=(3, 2)) as (_, axes):
        axes.plot([0, 1], [0, height])
        axes.set_title("x < y & z")


def test_page_is_whole_and_needs_nothing_beside_it(tmp_path):
    draw(tmp_path / "one.svg", 1)
    draw(tmp_path / "two.svg", 2)
    made = page(TEXT, tmp_path)
    parser = _Balanced()
    parser.feed(made)
    assert parser.open == [] and parser.seen.count("svg") == 2 and "script" not in parser.seen
    assert '<h2 id="a-b">' in made and "<td>&lt;2</td>" in made and '<div class="scroll" tabindex="0"><table>' in made
    assert not re.search(r'(src|href)="(?!#)', made.replace("xlink:href", "")) and "@import" not in made
    assert "prefers-color-scheme: dark" in made and "<figcaption>One</figcaption>" in made
    assert made == page(TEXT, tmp_path)


def test_names_of_two_pictures_do_not_meet(tmp_path):
    for name in ("one", "two"):
        draw(tmp_path / f"{name}.svg", 1)
    ids = [set(re.findall(r'\bid="([^"]+)"', inlined(tmp_path / f"{name}.svg", name))) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]
    text = inlined(tmp_path / "one.svg", 'say "one"')
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) and text.startswith("<svg")
    named = {one or other for one, other in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)}
    assert named <= ids[0] and 'aria-label="say &quot;one&quot;"' in text and ".one *{stroke" in text
