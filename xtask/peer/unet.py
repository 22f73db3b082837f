"""diffusers' UNet2DModel in plain torch, for a Python that has torch and no diffusers.

The same parameters under the same names and the same operations in the same order, for the kinds of
block that the configurations here have; `bench_peer.py same` compares the two.
"""

import json
import math
import os
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

DEFAULTS = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "downsample_padding": 1,
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
}
KINDS = {"DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"}


class UNet2DModel(nn.Module):
    def __init__(self, **config):
        super().__init__()
        unknown = set(config) - set(DEFAULTS)
        c = self.config = SimpleNamespace(**{**DEFAULTS, **config})
        unknown |= {*c.down_block_types, *c.up_block_types} - KINDS
        if unknown:
            raise ValueError(f"needs diffusers: {', '.join(sorted(unknown))}")
        channels, last = list(c.block_out_channels), len(c.block_out_channels) - 1
        temb = 4 * channels[0]
        self.conv_in = nn.Conv2d(c.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], temb)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        width = channels[0]
        for i, kind in enumerate(c.down_block_types):
            inputs = [width] + [channels[i]] * (c.layers_per_block - 1)
            width = channels[i]
            block = Block(c, inputs, width, temb, attends=kind.startswith("Attn"))
            if i < last:
                block.downsamplers = nn.ModuleList([Downsample(width, c.downsample_padding)])
            self.down_blocks.append(block)
        self.mid_block = Block(c, [width, width], width, temb, attends=True, middle=True)
        channels.reverse()
        for i, kind in enumerate(c.up_block_types):
            below, width = width, channels[i]
            beside = [width] * c.layers_per_block + [channels[min(i + 1, last)]]
            inputs = [(width if j else below) + skip for j, skip in enumerate(beside)]
            block = Block(c, inputs, width, temb, attends=kind.startswith("Attn"))
            if i < last:
                block.upsamplers = nn.ModuleList([Upsample(width)])
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, width, eps=c.norm_eps)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(width, c.out_channels, 3, padding=1)

    def forward(self, sample, timestep):
        if timestep.dim() == 0:
            timestep = timestep[None].to(sample.device)
        temb = self.time_embedding(self.sinusoid(timestep.expand(sample.shape[0])))
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, x, temb)
                skips.append(x)
            if block.downsamplers is not None:
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, temb)
        x = self.mid_block.attentions[0](x)
        x = self.mid_block.resnets[1](x, temb)
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, torch.cat([x, skips.pop()], dim=1), temb)
            if block.upsamplers is not None:
                x = block.upsamplers[0](x)
        return SimpleNamespace(sample=self.conv_out(self.conv_act(self.conv_norm_out(x))))

    def sinusoid(self, t):
        half = self.config.block_out_channels[0] // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t[:, None].float() * torch.exp(exponent / (half - self.config.freq_shift))[None]
        parts = [torch.sin(angles), torch.cos(angles)]
        return torch.cat(parts[::-1] if self.config.flip_sin_to_cos else parts, dim=-1)

    def save_pretrained(self, folder):
        from safetensors.torch import save_file

        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"_class_name": "UNet2DModel", **vars(self.config)}, file, indent=2)
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        path = os.path.join(folder, "diffusion_pytorch_model.safetensors")
        save_file(weights, path, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder, subfolder=None, **_):
        from safetensors.torch import load_file

        folder = os.path.join(folder, subfolder or "")
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        # What a saved configuration says beyond these keys is the default.
        model = cls(**{key: config[key] for key in DEFAULTS if key in config})
        model.load_state_dict(load_file(os.path.join(folder, "diffusion_pytorch_model.safetensors")))
        return model


class TimeEmbedding(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class Block(nn.Module):
    """The layers of one level on the way down, in the middle or on the way up."""

    def __init__(self, c, inputs, width, temb, attends, middle=False):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(c, each, width, temb) for each in inputs])
        count = (1 if middle else len(inputs)) if attends else 0
        self.attentions = nn.ModuleList([Attention(c, width) for _ in range(count)])
        self.downsamplers = self.upsamplers = None

    def layer(self, i, x, temb):
        x = self.resnets[i](x, temb)
        return self.attentions[i](x) if len(self.attentions) else x


class Resnet(nn.Module):
    def __init__(self, c, inputs, width, temb):
        super().__init__()
        self.norm1 = nn.GroupNorm(c.norm_num_groups, inputs, eps=c.norm_eps)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, width)
        self.norm2 = nn.GroupNorm(c.norm_num_groups, width, eps=c.norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, width, 1) if inputs != width else None

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Attention(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.heads = width // (c.attention_head_dim or width)
        self.group_norm = nn.GroupNorm(c.norm_num_groups, width, eps=c.norm_eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        n, channels, height, width = x.shape
        tokens = self.group_norm(x.view(n, channels, -1)).transpose(1, 2)
        split = (n, -1, self.heads, channels // self.heads)
        q, k, v = (p(tokens).view(split).transpose(1, 2) for p in (self.to_q, self.to_k, self.to_v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, channels)
        return self.to_out[0](y).transpose(-1, -2).reshape(n, channels, height, width) + x


class Downsample(nn.Module):
    def __init__(self, width, padding):
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=padding)

    def forward(self, x):
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class DDIMScheduler:
    """diffusers' DDIMScheduler with its defaults: linear betas, clipped x0, steps from the start of each interval."""

    def __init__(self):
        self.alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)

    def set_timesteps(self, steps):
        self.stride = 1000 // steps
        self.timesteps = torch.arange(steps).flip(0) * self.stride

    def step(self, eps, t, x):
        before = int(t) - self.stride
        alpha, alpha_before = self.alphas[int(t)], self.alphas[max(before, 0)]
        if before < 0:
            alpha_before = torch.tensor(1.0)  # set_alpha_to_one
        alpha, alpha_before = float(alpha), float(alpha_before)
        x0 = ((x - (1 - alpha) ** 0.5 * eps) / alpha**0.5).clamp(-1, 1)
        return SimpleNamespace(prev_sample=alpha_before**0.5 * x0 + (1 - alpha_before) ** 0.5 * eps)
