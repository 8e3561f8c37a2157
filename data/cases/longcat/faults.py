"""The seventeen single faults of the calibration, each a switch of the port, with where a real port had it if one did."""

FAULTS = {
    "SiLU in the text embedder": {"text_activation": "silu"},  # FastVideo 0f1146403, longcat.py:172
    "RMSNorm for LayerNorm": {"norm": "rms"},  # FastVideo fe7c96920, longcat.py:529, 530, 642
    "SwiGLU gate and up exchanged": {"swap_gate": True},  # FastVideo fe7c96920, longcat.py:465
    "attention over heads": {"attend_heads": True},  # FastVideo fe7c96920, longcat.py:294-302
    "no RoPE": {"rope": "none"},
    "RoPE height and width exchanged": {"rope": "twh"},
    "no norm of queries and keys": {"qk_norm": False},
    "no affine in the cross-attention's norm": {"cross_norm_affine": False},
    "keys and values exchanged": {"swap_kv": True},
    "timestep in 0 to 1": {"timestep_scale": 0.001},
    "sine before cosine": {"sin_first": True},
    "shift and scale exchanged": {"swap_shift_scale": True},
    "last block missing": {"drop_last_block": True},
    "no weights loaded": {"load_weights": False},
    "sign flipped": {"output_scale": -1.0},
    "output doubled": {"output_scale": 2.0},
    "patches unpacked transposed": {"transpose_patches": True},
}

# The port as its history had it, several faults together; the mask never reached the network at any of these commits.
VERSIONS = {
    "before the note": {"text_activation": "silu", "norm": "rms", "swap_gate": True, "attend_heads": True, "pass_mask": False,
                        "pass_sigmas": False},
    "the note's commit": {"text_activation": "silu", "pass_mask": False, "pass_sigmas": False, "fp32_islands": False},
    "newest": {"pass_mask": False, "pass_sigmas": False, "fp32_islands": False},
}  # fmt: skip

# Faults of the sampler around the network, which no look at the network's output alone can show.
AROUND = {
    "ordinary guidance for CFG-zero": {"guidance": "plain"},
    "prediction not negated": {"negate": False},
    "arguments in the original's order": {"by_position": True},
    "mask not passed": {"pass_mask": False},  # FastVideo 0f1146403 and 2f3d40740
}
