"""The PyTorch side of `cargo xtask bench`: the same work with diffusers' UNet2DModel.

Needs torch and diffusers: python -m pip install torch diffusers

Each task prints one line of JSON on stdout, with the keys of `ddpm-bench` where both have them:

    bench_peer.py info
    bench_peer.py network --config UNET.json --batch 8 --steps 5 --warmup 2 --mode eager --dtype f32
    bench_peer.py sample --model DIR --n 16 --steps 50 --out GRID.png
    bench_peer.py make-model --config UNET.json --to DIR

Modes: `eager`; `channels_last`, eager with the memory layout that convolutions on processors like
best; `compile`, that layout and torch.compile. `--dtype bf16` is autocast: weights stay f32.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time

try:
    import torch
    from diffusers import DDIMScheduler, UNet2DModel
    from diffusers import __version__ as diffusers_version
    from diffusers.training_utils import EMAModel
except ImportError as error:
    sys.exit(
        f"error: {error}; install what is needed with: {sys.executable} -m pip install torch diffusers"
    )


def main():
    args = arguments()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    tasks = {"info": info, "network": network, "sample": sample, "make-model": make_model}
    try:
        line = tasks[args.task](args)
    except Exception as error:  # whatever torch raises is the reason that the caller reports
        sys.exit(f"error: {reason(error)}")
    print(json.dumps(line))


def arguments():
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--threads", type=int, default=0, help="0 leaves torch's own choice")
    shared.add_argument("--mode", choices=["eager", "channels_last", "compile"], default="eager")
    shared.add_argument("--dtype", choices=["f32", "bf16"], default="f32")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("info", parents=[shared], help="versions of what is measured")

    task = tasks.add_parser("network", parents=[shared], help="time training steps and forwards")
    task.add_argument("--config", required=True)
    task.add_argument("--batch", type=int, default=8)
    task.add_argument("--steps", type=int, default=5, help="repetitions that are measured")
    task.add_argument("--warmup", type=int, default=3, help="repetitions before them")
    task.add_argument("--only", choices=["train", "forward", "both"], default="both")

    task = tasks.add_parser("sample", parents=[shared], help="draw images by DDIM into one PNG")
    task.add_argument("--model", required=True)
    task.add_argument("--n", type=int, default=16)
    task.add_argument("--steps", type=int, default=50)
    task.add_argument("--out", required=True)

    task = tasks.add_parser("make-model", parents=[shared], help="write a model directory")
    task.add_argument("--config", required=True)
    task.add_argument("--to", required=True)
    return parser.parse_args()


def info(args):
    return {
        "program": f"torch {torch.__version__}",
        "torch": torch.__version__,
        "diffusers": diffusers_version,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def network(args):
    config = read_config(args.config)
    model, net = prepare(UNet2DModel(**config), args.mode)
    shape = (args.batch, model.config.in_channels, *image_size(model))
    x0, noise = torch.randn(shape), torch.randn(shape)
    t = torch.randint(0, 1000, (args.batch,))
    line = {
        "program": f"torch {torch.__version__}",
        "mode": args.mode,
        "dtype": args.dtype,
        "batch": args.batch,
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }

    def put(name, seconds):
        line[f"{name}_images_per_s"] = args.batch / statistics.median(seconds)
        line[f"{name}_seconds_by_step"] = seconds

    if args.only != "forward":
        model.train()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
        ema = EMAModel(model.parameters(), decay=0.9999)

        def train_step():
            with autocast(args.dtype):
                y = net(0.7 * x0 + 0.7 * noise, t).sample
            loss = (y.float() - noise).square().mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            ema.step(model.parameters())

        seconds = clock(train_step, args)
        line["train_step_s"] = statistics.median(seconds)
        put("train", seconds)
        # Before the forward passes, so that this is the peak of training.
        line["peak_bytes"] = peak_bytes()
    if args.only != "train":
        model.eval()

        def forward():
            with torch.inference_mode(), autocast(args.dtype):
                net(x0, t)

        seconds = clock(forward, args)
        line["forward_s"] = statistics.median(seconds)
        put("forward", seconds)
        line.setdefault("peak_bytes", peak_bytes())
    return line


def sample(args):
    start = time.perf_counter()
    pipeline = os.path.isdir(os.path.join(args.model, "unet"))
    model = UNet2DModel.from_pretrained(
        args.model, subfolder="unet" if pipeline else None, low_cpu_mem_usage=False
    )
    model, net = prepare(model.eval(), args.mode)
    # The defaults are what a model directory without a scheduler_config.json means to `ddpm sample`.
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(args.steps)
    x = torch.randn(args.n, model.config.in_channels, *image_size(model))
    with torch.inference_mode():
        for t in scheduler.timesteps:
            with autocast(args.dtype):
                eps = net(x, t).sample
            x = scheduler.step(eps.float(), t, x).prev_sample
    save_grid(x, args.out)
    return {"images": args.n, "steps": args.steps, "seconds": time.perf_counter() - start}


def make_model(args):
    model = UNet2DModel(**read_config(args.config))
    model.save_pretrained(args.to)
    return {"model": args.to, "parameters": sum(p.numel() for p in model.parameters())}


def read_config(path):
    with open(path, encoding="utf-8") as file:
        return {key: value for key, value in json.load(file).items() if not key.startswith("_")}


def image_size(model):
    size = model.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def prepare(model, mode):
    """The model in the mode's memory layout, and what is to be called in its place."""
    if mode != "eager":
        model = model.to(memory_format=torch.channels_last)
    return model, torch.compile(model) if mode == "compile" else model


def autocast(dtype):
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")


def clock(work, args):
    """Seconds of each repetition after the warm-up, which takes torch.compile's time too."""
    for _ in range(args.warmup):
        work()
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak_bytes():
    """The largest resident set so far; None where the system does not say."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def save_grid(images, path):
    """Images in [-1, 1], [n, channels, height, width], side by side in one PNG."""
    from PIL import Image

    n, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    grid = torch.zeros(channels, rows * height, columns * width, dtype=torch.uint8)
    for i, image in enumerate(pixels):
        top, left = i // columns * height, i % columns * width
        grid[:, top : top + height, left : left + width] = image
    grid = grid[0] if channels == 1 else grid.permute(1, 2, 0)
    Image.fromarray(grid.contiguous().numpy()).save(path)


def reason(error):
    """An error in one line: torch.compile's carry pages, whose first lines say what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    count = 2 if lines[0].endswith(":") else 1
    return f"{type(error).__name__}: {' '.join(lines[:count])[:300]}"


if __name__ == "__main__":
    main()
