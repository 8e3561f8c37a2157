"""A native port of FLUX: own modules and sampler, the checkpoint's weights; no diffusers, no transformers."""

from .pipeline import NativeFluxPipeline as NativeFluxPipeline
from .pipeline import PortOutput as PortOutput
