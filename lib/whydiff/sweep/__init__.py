"""Many cases at once.

spec, grid         the sweep file, and the cases that it stands for
keys               what a result depends on: by this a sweep knows what it has done before
task, pool, process_state   what a worker does: one case, with pipelines and recordings that it keeps for the next
cluster, running, order     workers by dask, which case goes where, and what happens when one dies
bisection          the value at which the verdict flips
results, junit     what was found, in files
findings, page     what it says: settings, causes, boundaries, heat maps
"""
