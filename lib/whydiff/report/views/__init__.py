"""Pictures of results. Each function draws on the axes it is given and returns them; it computes nothing and shows nothing.

Readable without colour: the reference is a solid line or a filled mark, the candidate a dashed line or an open one.
"""

from whydiff.report.views.checks import families, flow_expectations, ratio_region, verdicts_of_checks
from whydiff.report.views.curves import dt_per_step, growth, modules, ranked_causes, sigma_schedules, stage_strip, weights
from whydiff.report.views.decoding import latent_channels, round_trip
from whydiff.report.views.frames import by_frame, fingerprints, kept_detail, seen_frames, visible_counts
from whydiff.report.views.noise import noise_pair
from whydiff.report.views.pictures import flip_map, picture_difference, pictures, sizes
from whydiff.report.views.pipeline import pipeline
from whydiff.report.views.profiles import error_profiles
from whydiff.report.views.prompts import token_differences
from whydiff.report.views.repairs import before_after, repaired_pictures
from whydiff.report.views.sheet import contact_sheet
from whydiff.report.views.steps import shift_intervals, step_times
from whydiff.report.views.tree import module_tree

__all__ = ["before_after", "by_frame", "contact_sheet", "dt_per_step", "error_profiles", "families", "fingerprints", "flip_map",
           "flow_expectations", "growth", "kept_detail", "latent_channels", "module_tree", "modules", "noise_pair", "picture_difference",
           "pictures", "pipeline", "ranked_causes", "ratio_region", "repaired_pictures", "round_trip", "seen_frames", "shift_intervals",
           "sigma_schedules", "sizes", "stage_strip", "step_times", "token_differences", "verdicts_of_checks", "visible_counts",
           "weights"]  # fmt: skip
