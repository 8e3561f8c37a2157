"""From the checkpoint's names (diffusers, transformers) to the port's: one table per component.

A row is `native module: source modules`. Several sources are fused into one matrix, in that order. Weights
and biases go together; every tensor of the file is used once, and every parameter of the port is filled.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Table = dict[str, list[str]]


def transformer_table(config: dict) -> Table:
    table = {
        "img_in": ["x_embedder"],
        "txt_in": ["context_embedder"],
        "final_layer.modulation.lin": ["norm_out.linear"],
        "final_layer.linear": ["proj_out"],
    }
    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder"}
    if config["guidance_embeds"]:
        embedders["guidance_in"] = "guidance_embedder"
    for native, source in embedders.items():
        table[f"{native}.in_layer"] = [f"time_text_embed.{source}.linear_1"]
        table[f"{native}.out_layer"] = [f"time_text_embed.{source}.linear_2"]
    for i in range(config["num_layers"]):
        a, b = f"double_blocks.{i}", f"transformer_blocks.{i}"
        table |= {
            f"{a}.img_mod.lin": [f"{b}.norm1.linear"],
            f"{a}.img_attn.qkv": [f"{b}.attn.to_q", f"{b}.attn.to_k", f"{b}.attn.to_v"],
            f"{a}.img_attn.norm.query_norm": [f"{b}.attn.norm_q"],
            f"{a}.img_attn.norm.key_norm": [f"{b}.attn.norm_k"],
            f"{a}.img_attn.proj": [f"{b}.attn.to_out.0"],
            f"{a}.img_mlp.0": [f"{b}.ff.net.0.proj"],
            f"{a}.img_mlp.2": [f"{b}.ff.net.2"],
            f"{a}.txt_mod.lin": [f"{b}.norm1_context.linear"],
            f"{a}.txt_attn.qkv": [f"{b}.attn.add_q_proj", f"{b}.attn.add_k_proj", f"{b}.attn.add_v_proj"],
            f"{a}.txt_attn.norm.query_norm": [f"{b}.attn.norm_added_q"],
            f"{a}.txt_attn.norm.key_norm": [f"{b}.attn.norm_added_k"],
            f"{a}.txt_attn.proj": [f"{b}.attn.to_add_out"],
            f"{a}.txt_mlp.0": [f"{b}.ff_context.net.0.proj"],
            f"{a}.txt_mlp.2": [f"{b}.ff_context.net.2"],
        }
    for i in range(config["num_single_layers"]):
        a, b = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        table |= {
            f"{a}.modulation.lin": [f"{b}.norm.linear"],
            f"{a}.linear1": [f"{b}.attn.to_q", f"{b}.attn.to_k", f"{b}.attn.to_v", f"{b}.proj_mlp"],
            f"{a}.norm.query_norm": [f"{b}.attn.norm_q"],
            f"{a}.norm.key_norm": [f"{b}.attn.norm_k"],
            f"{a}.linear2": [f"{b}.proj_out"],
        }
    return table


def clip_table(config: dict) -> Table:
    table = {
        "token_embedding": ["embeddings.token_embedding"],
        "positional_embedding": ["embeddings.position_embedding"],
        "ln_final": ["final_layer_norm"],
    }
    for i in range(config["num_hidden_layers"]):
        a, b = f"resblocks.{i}", f"encoder.layers.{i}"
        table |= {
            f"{a}.ln_1": [f"{b}.layer_norm1"],
            f"{a}.attn.qkv": [f"{b}.self_attn.{x}_proj" for x in "qkv"],
            f"{a}.attn.proj": [f"{b}.self_attn.out_proj"],
            f"{a}.ln_2": [f"{b}.layer_norm2"],
            f"{a}.c_fc": [f"{b}.mlp.fc1"],
            f"{a}.c_proj": [f"{b}.mlp.fc2"],
        }
    return table


def t5_table(config: dict) -> Table:
    first = "encoder.block.0.layer.0.SelfAttention"
    table = {
        "embedding": ["shared"],
        "position.embedding": [f"{first}.relative_attention_bias"],  # the first block's, shared by all
        "norm": ["encoder.final_layer_norm"],
    }
    for i in range(config["num_layers"]):
        a, b = f"blocks.{i}", f"encoder.block.{i}.layer"
        table |= {
            f"{a}.norm1": [f"{b}.0.layer_norm"],
            f"{a}.attn.qkv": [f"{b}.0.SelfAttention.{x}" for x in "qkv"],
            f"{a}.attn.proj": [f"{b}.0.SelfAttention.o"],
            f"{a}.norm2": [f"{b}.1.layer_norm"],
            f"{a}.gate_and_up": [f"{b}.1.DenseReluDense.wi_0", f"{b}.1.DenseReluDense.wi_1"],
            f"{a}.down": [f"{b}.1.DenseReluDense.wo"],
        }
    return table


def autoencoder_table(config: dict) -> Table:
    """Diffusers numbers the decoder's blocks as they run, the port by resolution: up.0 is the last."""
    table = {"quant_conv": ["quant_conv"], "post_quant_conv": ["post_quant_conv"]}
    levels, blocks = len(config["block_out_channels"]), config["layers_per_block"]
    for half in ("encoder", "decoder"):
        table |= {f"{half}.{x}": [f"{half}.{x}"] for x in ("conv_in", "conv_out")}
        table[f"{half}.norm_out"] = [f"{half}.conv_norm_out"]
        resnets = {f"{half}.mid.block_{i + 1}": f"{half}.mid_block.resnets.{i}" for i in range(2)}
        for i in range(levels):
            if half == "encoder":
                a, b, count = f"encoder.down.{i}", f"encoder.down_blocks.{i}", blocks
                table[f"{a}.resample.conv"] = [f"{b}.downsamplers.0.conv"]
            else:
                a, b, count = f"decoder.up.{levels - 1 - i}", f"decoder.up_blocks.{i}", blocks + 1
                table[f"{a}.resample.conv"] = [f"{b}.upsamplers.0.conv"]
            resnets |= {f"{a}.block.{j}": f"{b}.resnets.{j}" for j in range(count)}
        for a, b in resnets.items():
            table |= {f"{a}.{x}": [f"{b}.{x}"] for x in ("norm1", "conv1", "norm2", "conv2")}
            table[f"{a}.nin_shortcut"] = [f"{b}.conv_shortcut"]
        attn = f"{half}.mid_block.attentions.0"
        table |= {
            f"{half}.mid.attn_1.norm": [f"{attn}.group_norm"],
            f"{half}.mid.attn_1.qkv": [f"{attn}.to_q", f"{attn}.to_k", f"{attn}.to_v"],
            f"{half}.mid.attn_1.proj": [f"{attn}.to_out.0"],
        }
    return table


TABLES = {"transformer": transformer_table, "text_encoder": clip_table, "text_encoder_2": t5_table,
          "vae": autoencoder_table}


def rename(tensors: dict[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Raises ValueError when a tensor is left over. Rows for modules the checkpoint lacks are skipped."""
    left, renamed = dict(tensors), {}
    for native, sources in table.items():
        for kind in ("weight", "bias"):
            if f"{sources[0]}.{kind}" in left:
                renamed[f"{native}.{kind}"] = torch.cat([left.pop(f"{source}.{kind}") for source in sources])
    if left:
        names = ", ".join(sorted(left)[:5])
        raise ValueError(f"{len(left)} tensors of the checkpoint have no place in this port: {names}, ...")
    return renamed


def convert(component: str, tensors: dict[str, Tensor], config: dict) -> dict[str, Tensor]:
    """The checkpoint's tensors of one component -> the port's state dict."""
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    renamed = rename(tensors, TABLES[component](config))
    if component == "transformer":  # diffusers keeps scale, then shift; the port shift, then scale
        for kind in ("weight", "bias"):
            scale, shift = renamed[f"final_layer.modulation.lin.{kind}"].chunk(2)
            renamed[f"final_layer.modulation.lin.{kind}"] = torch.cat([shift, scale])
    return renamed


def load_component(folder: Path, component: str, build: type[nn.Module], dtype: torch.dtype) -> nn.Module:
    """`build(config)` with the weights of `folder/component`, ready to run."""
    config = read_config(folder / component / "config.json")
    tensors = {}
    for path in sorted((folder / component).glob("*.safetensors")):
        tensors |= load_file(path)
    with torch.device("meta"):  # no random weights: they would move the global generator on
        module = build(config)
    module.load_state_dict(convert(component, tensors, config), assign=True)
    return module.to(dtype).eval().requires_grad_(False)


def read_config(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
