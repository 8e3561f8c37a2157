"""One file per command. Each has a function `command`; its docstring is the help text.

arguments.py   what several commands share: KEY=VALUE
progress.py    what is going on, to stderr
"""
