"""One line in a notebook that says what is going on, instead of a log."""

from __future__ import annotations

import time
from collections.abc import Callable


def line() -> Callable[[str], None]:
    """A `progress` for `whydiff.study`: each piece of work replaces the one before, in one output of the cell.

    Outside a notebook nothing is shown.
    """
    from IPython import get_ipython
    from IPython.display import HTML, display

    if get_ipython() is None:
        return lambda text: None
    started = time.perf_counter()
    handle = display(HTML(""), display_id=True)

    def said(text: str) -> None:
        handle.update(HTML(f"<small>{time.perf_counter() - started:.0f} s: {text}</small>"))

    return said
