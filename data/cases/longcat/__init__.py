"""A small DiT of LongCat-Video's build with its sampler, twice: as the original has it, and as a native port with switches."""
