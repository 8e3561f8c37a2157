"""Counterparts in two implementations that share no names: parameters by what they hold, modules by what they do."""

from whydiff.measure.pairing.content import ParameterPair
from whydiff.measure.pairing.found import ModulePair, ModulePairing
from whydiff.measure.pairing.modules import pair_modules
from whydiff.measure.pairing.outputs import Output
from whydiff.measure.pairing.parameters import ParameterPairing, pair_parameters
from whydiff.measure.pairing.rest import Sought, with_functions

__all__ = ["ModulePair", "ModulePairing", "Output", "ParameterPair", "ParameterPairing", "Sought", "pair_modules", "pair_parameters",
           "with_functions"]  # fmt: skip
