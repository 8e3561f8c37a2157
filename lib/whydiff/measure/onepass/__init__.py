"""All figures of two tensors of one shape from one read of both.

totals.py    what a pass collects, and how the figures follow from it
plain.py     the pass in torch, a chunk at a time: small tensors, complex numbers, any device
machine.py   which tensors there is machine code for
compiled.py  the pass over large tensors on the CPU, by threads: blocks.py and kernels.py are its machine code
fused.py     the pass over tensors on a GPU, one kernel
"""
