"""One line in a notebook that says what is going on, instead of a log."""

from __future__ import annotations

import functools
import html
import os
import time
from collections.abc import Callable


def line() -> Callable[[str], None]:
    """A `progress` for `whydiff.study`: each piece of work replaces the one before, in one output of the cell.

    Outside a notebook nothing is shown. Call it before torch, diffusers and transformers are imported: tqdm reads its
    switch at import, and their own bars and warnings would fill the cell.
    """
    for variable, value in {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}.items():
        os.environ.setdefault(variable, value)
    from IPython import get_ipython
    from IPython.display import HTML, display

    if get_ipython() is None:
        return lambda text: None
    from tqdm.notebook import tqdm_notebook

    # In a notebook tqdm does not read its switch, and each of its bars is a widget that leaves a hole where there is no kernel.
    tqdm_notebook.__init__ = functools.partialmethod(tqdm_notebook.__init__, disable=True)
    started = time.perf_counter()
    handle = display(HTML(""), display_id=True)

    def said(text: str) -> None:
        handle.update(HTML(f"<small>{time.perf_counter() - started:.0f} s: {html.escape(text)}</small>"))

    return said
