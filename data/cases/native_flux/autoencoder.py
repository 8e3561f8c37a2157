"""The KL autoencoder in plain torch, with the module names of black-forest-labs/flux (802fb47)."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class ResnetBlock(nn.Module):
    """(B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, c_in: int, c_out: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=1e-6)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=1e-6)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class AttnBlock(nn.Module):
    """Attention of one head over all positions of (B, C, H, W)."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(self.norm(x), "b c h w -> b 1 (h w) c")
        out = self.proj(F.scaled_dot_product_attention(*self.qkv(tokens).chunk(3, dim=-1)))
        return x + rearrange(out, "b 1 (h w) c -> b c h w", h=x.shape[2])


class Middle(nn.Module):
    """(B, C, h, w) -> (B, C, h, w), at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, groups)
        self.attn_1 = AttnBlock(channels, groups) if attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Upsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2); the padding is on the right and at the bottom only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """The blocks of one resolution, (B, C_in, H, W) -> (B, C_out, H, W), and the change to the next."""

    def __init__(self, c_in: int, c_out: int, blocks: int, groups: int, resample: nn.Module):
        super().__init__()
        inputs = [c_in] + [c_out] * (blocks - 1)
        self.block = nn.ModuleList(ResnetBlock(channels, c_out, groups) for channels in inputs)
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.resample(x)


class Encoder(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> moments (B, 2C, h, w): mean, then log variance."""

    def __init__(self, config: dict):
        super().__init__()
        widths, groups = config["block_out_channels"], config["norm_num_groups"]
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            resample = Downsample(width) if i < len(widths) - 1 else nn.Identity()
            c_in = widths[max(i - 1, 0)]
            self.down.append(Level(c_in, width, config["layers_per_block"], groups, resample))
        self.mid = Middle(widths[-1], groups, config["mid_block_add_attention"])
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config["latent_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents (B, C, h, w) -> image (B, 3, H, W) in [-1, 1]. `up.0` is the full resolution and runs last."""

    def __init__(self, config: dict):
        super().__init__()
        widths, groups = config["block_out_channels"], config["norm_num_groups"]
        self.conv_in = nn.Conv2d(config["latent_channels"], widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups, config["mid_block_add_attention"])
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            resample = Upsample(width) if i > 0 else nn.Identity()
            c_in = widths[min(i + 1, len(widths) - 1)]
            self.up.append(Level(c_in, width, config["layers_per_block"] + 1, groups, resample))
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class AutoEncoder(nn.Module):
    """Pixels to latents and back, without scaling_factor and shift_factor: those are the pipeline's."""

    def __init__(self, config: dict):
        super().__init__()
        channels = config["latent_channels"]
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = self.post_quant_conv = nn.Identity()
        if config["use_quant_conv"]:
            self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        if config["use_post_quant_conv"]:
            self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> the mean latents (B, C, h, w)."""
        return self.quant_conv(self.encoder(image)).chunk(2, dim=1)[0]

    def decode(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, H, W) in [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(z))

    forward = decode
