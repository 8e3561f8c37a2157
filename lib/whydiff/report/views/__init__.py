"""Pictures of results. Each function draws on the axes it is given and returns them; it computes nothing and shows nothing.

Readable without colour: the reference is a solid line or a filled mark, the candidate a dashed line or an open one.
"""

from whydiff.report.views.checks import families, flow_expectations, ratio_region, verdicts_of_checks
from whydiff.report.views.curves import dt_per_step, growth, modules, ranked_causes, sigma_schedules, stage_strip, weights
from whydiff.report.views.frames import by_frame, fingerprints, kept_detail, seen_frames, visible_counts
from whydiff.report.views.pictures import latent_channels, noise_pair, pictures, sizes, token_differences
from whydiff.report.views.profiles import error_profiles
from whydiff.report.views.steps import shift_intervals, step_times

__all__ = ["by_frame", "dt_per_step", "error_profiles", "families", "fingerprints", "flow_expectations", "growth", "kept_detail", "latent_channels",
           "modules", "noise_pair", "pictures", "ranked_causes", "ratio_region", "seen_frames", "shift_intervals", "sigma_schedules",
           "sizes", "stage_strip", "step_times", "token_differences", "verdicts_of_checks", "visible_counts", "weights"]  # fmt: skip
