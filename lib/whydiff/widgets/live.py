"""The widget behind an exhibit. Imported only where a front end is: a widget opens a channel to it when it is made."""

from __future__ import annotations

import anywidget
import traitlets


class Live(anywidget.AnyWidget):
    """`data` is what is shown, `told` a line of the kernel to it, `asked` a question of it to the kernel; `exhibit` is its name."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    told = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    exhibit = traitlets.Unicode().tag(sync=True)
    live = traitlets.Bool(True).tag(sync=True)
