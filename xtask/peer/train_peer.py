"""The PyTorch side of `cargo xtask quality`: diffusers' UNet2DModel and DDPMScheduler, trained as its script
examples/unconditional_image_generation does (AdamW, warm-up and cosine, EMA with warm-up, clipping at 1), for a given time on
a given number of threads; then N images by its DDIM or DDPM sampler as PNGs.

    train_peer.py --data digits|fashion-mnist|sprites --seconds 60 --n 1000 --out DIR [--threads 2] [--seed 0]

Needs: python -m pip install torch diffusers numpy pillow
The time is that of training alone, without imports, data and sampling. Prints one line of JSON. The settings were chosen among
a few so that this side does well in that time, not badly; --lr, --batch, --channels and --dtype bf16 override them.
"""

import argparse
import csv
import gzip
import io
import json
import pathlib
import struct
import sys
import time
import zipfile

try:
    import numpy as np
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel
    from PIL import Image
except ImportError as error:
    sys.exit(f"error: {error}; install what is needed with: {sys.executable} -m pip install torch diffusers numpy pillow")

ROOT = pathlib.Path(__file__).resolve().parents[2]
# channels, multipliers, layers, attention at levels, batch, learning rate, steps of warm-up
PRESETS = {
    "digits": dict(ch=32, mult=(1, 2), layers=2, attn=(False, True), batch=64, lr=1e-3, warmup=100),
    "fashion-mnist": dict(ch=32, mult=(1, 2, 2), layers=1, attn=(False, False, True), batch=16, lr=5e-4, warmup=100),
    "sprites": dict(ch=48, mult=(1, 2, 2), layers=1, attn=(False, False, True), batch=16, lr=5e-4, warmup=100),
}


def digits():
    rows = csv.reader(gzip.open(ROOT / "crates/ddpm-data/data/digits.csv.gz", "rt"))
    table = np.array([[float(value) for value in row] for row in rows])
    return table[:, :64].reshape(-1, 1, 8, 8) / 8 - 1


def fashion_mnist():
    raw = gzip.open("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz").read()
    n, height, width = struct.unpack(">III", raw[4:16])
    return np.frombuffer(raw, np.uint8, offset=16).reshape(n, 1, height, width) / 127.5 - 1


def sprites():
    archive = zipfile.ZipFile(ROOT / "configs/data/sprites-32.zip")
    names = sorted(name for name in archive.namelist() if name.endswith(".png"))
    images = [np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGBA")) for name in names]
    return np.stack(images).transpose(0, 3, 1, 2) / 127.5 - 1


DATA = {"digits": digits, "fashion-mnist": fashion_mnist, "sprites": sprites}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=PRESETS, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--sampler", choices=["ddim", "ddpm"], default="ddim")
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    preset = PRESETS[args.data]
    batch, lr, ch = args.batch or preset["batch"], args.lr or preset["lr"], args.channels or preset["ch"]
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    images = torch.tensor(DATA[args.data](), dtype=torch.float32)
    channels, size = images.shape[1], images.shape[2]
    pad = -size % 2 ** (len(preset["mult"]) - 1)
    if pad:
        images = torch.nn.functional.pad(images, (pad // 2, pad - pad // 2) * 2, value=-1.0)
    down = tuple("AttnDownBlock2D" if attends else "DownBlock2D" for attends in preset["attn"])
    up = tuple("AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(preset["attn"]))
    net = UNet2DModel(
        sample_size=images.shape[2],
        in_channels=channels,
        out_channels=channels,
        layers_per_block=preset["layers"],
        norm_num_groups=8,
        block_out_channels=tuple(ch * multiple for multiple in preset["mult"]),
        down_block_types=down,
        up_block_types=up,
    )
    noise = DDPMScheduler(num_train_timesteps=1000)
    optimiser = torch.optim.AdamW(net.parameters(), lr, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    ema = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    cast = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16")

    def step():
        x0 = images[torch.randint(0, len(images), (batch,))]
        eps, t = torch.randn_like(x0), torch.randint(0, 1000, (batch,))
        with cast:
            out = net(noise.add_noise(x0, eps, t), t).sample
        loss = (out.float() - eps).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        ema.step(net.parameters())
        return loss.item()

    # The length of the cosine from a few steps' time; they count, at a tenth of the rate.
    optimiser.param_groups[0]["lr"] = lr / 10
    begin = time.time()
    losses = [step() for _ in range(5)]
    total = max(10, int((args.seconds - (time.time() - begin)) / ((time.time() - begin) / 5)) + 5)
    optimiser.param_groups[0]["lr"] = lr
    base = get_scheduler("cosine", optimiser, num_warmup_steps=min(preset["warmup"], total // 5), num_training_steps=total)
    while time.time() - begin < args.seconds:
        losses.append(step())
        base.step()
    spent = time.time() - begin
    ema.copy_to(net.parameters())
    net.eval()
    sampler = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}[args.sampler](num_train_timesteps=1000)
    sampler.set_timesteps(args.steps)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(args.seed + 1)
    begin = time.time()
    with torch.inference_mode():
        for first in range(0, args.n, 100):
            count = min(100, args.n - first)
            z = torch.randn(count, channels, *images.shape[2:], generator=generator)
            for t in sampler.timesteps:
                z = sampler.step(net(z, t).sample, t, z).prev_sample
            top = pad // 2
            z = z[:, :, top : top + size, top : top + size]
            pixels = ((z.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
            for i, image in enumerate(pixels):
                Image.fromarray(image[:, :, 0] if channels == 1 else image).save(out / f"{first + i:05}.png")
    told = dict(
        data=args.data,
        parameters=sum(p.numel() for p in net.parameters()),
        steps=len(losses),
        batch=batch,
        lr=lr,
        seconds=spent,
        loss=float(np.mean(losses[-50:])),
        sampler=args.sampler,
        sampling_steps=args.steps,
        images=args.n,
        sampling_seconds=time.time() - begin,
        threads=args.threads,
        dtype=args.dtype,
        torch=torch.__version__,
    )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
