"""A figure of the report: drawn without a screen, and the same bytes whenever the lines are the same."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval_contract.files import replacing_file


@contextlib.contextmanager
def saved_figure(
    path: Path, *, figsize: tuple[float, float], num_panels: int = 1, sharey: bool = False
) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes (an array of them with several panels, side by side); it is written on the way out.

    Args:
        path: SVG file, or PNG by its ending.
        figsize: width and height, inches.
        num_panels: axes side by side.
        sharey: one vertical axis for all panels.

    Raises:
        UserError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": path.stem, "font.size": 9}):
        figure, axes = pyplot.subplots(1, num_panels, figsize=figsize, layout="constrained", sharey=sharey)
        try:
            yield figure, axes
            with replacing_file(path) as beside:
                ending = path.suffix.removeprefix(".")
                figure.savefig(beside, format=ending, metadata={"Date": None} if ending == "svg" else None)
        finally:
            pyplot.close(figure)
