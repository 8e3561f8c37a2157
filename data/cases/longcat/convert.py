"""The original's weights under the port's names: fused projections split by rows."""

import re

from torch import Tensor

NAMES = (
    (r"^x_embedder\.", "patch_embed."),
    (r"^t_embedder\.", "time_embed."),
    (r"^y_embedder\.", "text_embed."),
    (r"^final_layer\.adaLN_modulation\.", "final_modulation."),
    (r"^final_layer\.linear\.", "proj_out."),
    (r"\.adaLN_modulation\.", ".modulation."),
    (r"\.pre_crs_attn_norm\.", ".norm_cross."),
    (r"\.attn\.", ".self_attn."),
    (r"\.(\w+_attn)\.(q|k)_norm\.", r".\1.norm_\2."),
    (r"\.(\w+_attn)\.proj\.", r".\1.to_out."),
    (r"\.cross_attn\.q_linear\.", ".cross_attn.to_q."),
    (r"\.ffn\.w1\.", ".mlp.gate."),
    (r"\.ffn\.w3\.", ".mlp.up."),
    (r"\.ffn\.w2\.", ".mlp.down."),
)


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as `PortDiT` has them."""
    made = {}
    for name, value in state.items():
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        fused = re.search(r"\.(qkv|kv_linear)\.", name)
        if fused is None:
            made[name] = value
        else:
            parts = "qkv" if fused[1] == "qkv" else "kv"
            for letter, part in zip(parts, value.chunk(len(parts))):
                made[name.replace(fused[0], f".to_{letter}.")] = part
    return made
