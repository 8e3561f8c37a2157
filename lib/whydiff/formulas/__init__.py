"""The published formulas, as pure functions: no side, no trace, no scheduler object.

schedule.py         sigmas: grids, shifts, conversions
schedule_solve.py   which settings explain observed sigmas
observed_sigmas.py  the scale, final 0 and rounding of observed sigmas
schedule_switch.py  which shifts, steps and boundaries put the change of experts at a given step
moving_average.py   what a progress bar shows of its steps, and the steps behind what it shows
noise.py            which recipe draws this noise
noise_stream.py     where in a stream of random numbers it was drawn, and whether slice by slice
noise_layouts.py    in which shape and order it may have been drawn
philox.py           what a CUDA generator draws, computed on the CPU
guidance.py         which formula combined two predictions, and with which scale
"""
