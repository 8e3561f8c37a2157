"""The published formulas, as pure functions: no side, no trace, no scheduler object.

schedule.py         sigmas: grids, shifts, conversions
schedule_solve.py   which settings explain observed sigmas
observed_sigmas.py  the scale, final 0 and rounding of observed sigmas
schedule_switch.py  which shifts put the change of experts at a given step
noise.py            which recipe draws this noise
noise_layouts.py    in which shape and order it may have been drawn
philox.py           what a CUDA generator draws, computed on the CPU
"""
