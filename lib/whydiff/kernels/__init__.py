"""Kernels for headless notebooks that do not import everything again: forked from one warm process (Linux).

warm.py      the command's side: starts the warm process, tells it what to import, ends it
server.py    the warm process: forks a kernel whenever one is asked for
preload.py   what it imports, and whether it may be forked afterwards
forked.py    what a fork does to be like a kernel that was started afresh
client.py    the process that Jupyter takes for the kernel; starts an ordinary one where no fork can be had
"""
