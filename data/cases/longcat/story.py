"""What the notebook on LongCat looks at: the calibrations, the schedules, the reference's own fault, and the verdict."""

import dataclasses

import torch

from longcat import original, port
from longcat.calibrated_checks import Calibrated
from longcat.faults import AROUND, FAULTS
from longcat.inputs import debug_inputs, early_inputs, pipeline_inputs
from longcat.note_checks import NOTE_CHECKS, NOTE_TESTS
from longcat.pipeline import candidate, reference, wan_statistics
from whydiff.audits.result import AuditResult, Sentence, Table, markdown_table
from whydiff.errors import Trouble, did_you_mean
from whydiff.formulas.expectations import wrong_scale_error
from whydiff.formulas.guidance import combine
from whydiff.formulas.schedule_solve import solve_schedule
from whydiff.measure.calibration import Calibration, calibrate
from whydiff.measure.compare import relative_l2

SHOWN = {"output, held against the original": "output", "direction cond - uncond": "direction",
         "what the scheduler receives": "to the scheduler"}  # fmt: skip
AROUND_SHOWN = {"the stage's own guidance": "guidance", "what the scheduler receives": "to the scheduler",
                "arguments bound by name": "arguments"}  # fmt: skip


def chosen(names: list[str]) -> dict[str, dict]:
    """The faults named, all seventeen for an empty list."""
    for name in names:
        if name not in FAULTS:
            raise Trouble(f"no fault is called {name!r}.{did_you_mean(name, FAULTS)} Known: {', '.join(FAULTS)}.")
    return {name: FAULTS[name] for name in names or FAULTS}


def note_checks(names: list[str], seeds: int) -> Calibration:
    """The note's six checks on its own inputs, for the sound port and each fault alone."""
    sides = {name: candidate(**options) for name, options in chosen(names).items()}
    return calibrate(NOTE_CHECKS, ("sound port", candidate()), sides, [debug_inputs(seed) for seed in range(seeds)])


def note_alarms(seeds: int) -> Calibration:
    """The note's checks and two of its tests on the sound port alone, at the first step of a run with two similar prompts."""
    return calibrate(NOTE_CHECKS | NOTE_TESTS, ("sound port", candidate()), {}, [early_inputs(seed) for seed in range(seeds)])


def calibrated_checks(names: list[str], seeds: int = 1, around: bool = False) -> Calibration:
    """The replacements on a pipeline's inputs; `around` plants the faults of the sampler instead of the network's."""
    faults = AROUND if around else chosen(names)
    sides = {name: candidate(**options) for name, options in faults.items()}
    given = [pipeline_inputs(seed) for seed in range(seeds)]
    return calibrate(Calibrated(reference()).checks(), ("sound port", candidate()), sides, given)


def schedules(steps: int, **options) -> tuple[dict, Table]:
    """Sigmas that each side's scheduler really walks, by role, and the grid that explains each."""
    sigmas, rows = {}, []
    for role, side in (("reference", reference()), ("candidate", candidate(**options))):
        side.set_timesteps(side.scheduler, steps)
        sigmas[role] = side.scheduler.sigmas.double().numpy()
        best = solve_schedule(sigmas[role], config={"shift": original.SHIFT})[0]
        rows.append((role, float(sigmas[role][-2]), best.words, best.explains))
    return sigmas, Table(("side", "last sigma before 0", "grid", "explains it"), tuple(rows))


def guidance_by_batch(batches=(1, 2, 16)) -> Table:
    """CFG-Zero* of both sides against the published form, which has a factor for each sample."""
    rows = []
    for batch in batches:
        generator = torch.Generator().manual_seed(batch)
        rest, uncond = torch.randn(2, batch, 16, 3, 8, 12, generator=generator)
        cond = uncond * torch.linspace(0.2, 1.8, batch).view(-1, 1, 1, 1, 1) + 0.3 * rest  # every sample has a factor of its own
        expected = combine("zero_star", cond.double(), uncond.double(), 4.0)
        rows.append((batch, *(_distance(guide, cond, uncond, expected) for guide in (original.guide, port.guide))))
    return Table(("batch", "original: relative L2", "port: relative L2"), tuple(rows))


def _distance(guide, cond, uncond, expected):
    try:
        return relative_l2(expected, guide(cond, uncond, 4.0).double())
    except RuntimeError as error:
        return f"RuntimeError: {str(error).splitlines()[0]}"


@dataclasses.dataclass(frozen=True)
class ScaleError:
    """Relative L2 of the decoder's input, and by how much each channel's spread is off."""

    factor: float
    relative_l2: float
    channels: tuple[float, ...]

    def _repr_markdown_(self) -> str:
        head = ("divided by", "relative L2 of the decoder's input", "channels' spreads off by a factor of")
        spread = f"{min(self.channels):.2f} to {max(self.channels):.2f}"
        return markdown_table(head, ((f"{self.factor:g}", self.relative_l2, spread),))


def scale_error(factor: float) -> ScaleError:
    """What the decoder receives if latents are divided by `factor` where the Wan autoencoder's mean and std belong."""
    mean, std = wan_statistics()
    if factor <= 0:
        raise Trouble(f"a scale is above 0, got {factor:g}.")
    error, channels = wrong_scale_error(factor, mean.numpy(), std.numpy())
    return ScaleError(factor, error, tuple(channels.tolist()))


def verdict(calibration: AuditResult, states: dict, sigmas: dict, guidance: Table, ratio: tuple[float, float], autocast: bool,
            vae: ScaleError) -> AuditResult:
    """The answer to the note's "all issues fixed", from what the notebook measured. `states`: the port's verdicts, by its state."""
    ends = {role: float(values[-2]) for role, values in sigmas.items()}
    findings = [*calibration.findings, *(_state(name, diagnosis) for name, diagnosis in states.items())]
    if abs(ends["reference"] - ends["candidate"]) > 1e-6:
        findings.append(Sentence(f"the last sigma before 0 is {ends['reference']:.3g} in the original, {ends['candidate']:.3g} in the port"))
    wrong = [row[0] for row in guidance.rows if not isinstance(row[1], float) or row[1] > 1e-5]
    if wrong:
        findings.append(Sentence(f"the reference itself is wrong in CFG-Zero* at batch {', '.join(map(str, wrong))}, the port is right"))
    own, anew = ratio
    blamed = "precision is to blame" if own > anew else "precision is not to blame"
    findings.append(Sentence(blamed, f"the port in bfloat16 is {own:.2f} times as far from float32 as the original in bfloat16"))
    if not autocast:
        findings.append(Sentence("autocast to float32 does nothing on this device: a reproduction must cast by hand"))
    if vae.relative_l2 > 0.01:
        findings.append(Sentence("the note's scale is not this autoencoder's: the decoder's input would be off by "
                                 f"{min(vae.channels):.2f} to {max(vae.channels):.2f} a channel"))  # fmt: skip
    same = all(diagnosis.agrees for diagnosis in states.values()) and calibration.verdict == "same"
    return AuditResult("longcat_native_vs_original", "Are all implementation issues fixed, as the note says?",
                       "same" if same else "different", tuple(findings))  # fmt: skip


def _state(name: str, diagnosis) -> Sentence:
    """What a verdict says of the port in one state."""
    found = [f"{cause.id} ({cause.stage})" for cause in diagnosis.causes]
    open_places = sorted({f"{entry['stage']}, {entry.get('module') or entry['probe']}" for entry in diagnosis.unexplained})
    return Sentence(f"the port in the state '{name}' is {diagnosis.verdict}"
                    + (f": {', '.join(found)}" if found else "")
                    + (f"; unexplained, here: {'; '.join(open_places)}" if open_places else ""))  # fmt: skip
