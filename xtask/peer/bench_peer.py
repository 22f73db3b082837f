"""The PyTorch side of `cargo xtask bench`: the same work with diffusers' UNet2DModel.

Needs torch: python -m pip install torch diffusers
Without diffusers, `unet.py` beside this file is the same network in plain torch.

Each task prints one line of JSON on stdout, with the keys of `ddpm-bench` where both have them:

    bench_peer.py info --device cuda
    bench_peer.py network --config UNET.json --batch 8 --steps 5 --warmup 2 --mode eager --dtype f32
    bench_peer.py sample --model DIR --n 16 --steps 50 --out GRID.png
    bench_peer.py make-model --config UNET.json --to DIR
    bench_peer.py matmul --device cuda            the most that matrix products reach on this machine
    bench_peer.py same --config UNET.json         that `unet.py` is diffusers' network

Modes: `eager`; `channels_last`, eager with the memory layout that convolutions like best; `compile`,
that layout and torch.compile as it comes; `graphs`, the same with mode="reduce-overhead", which
replays CUDA graphs. The optimiser and the moving average stay outside of what is compiled: on cuda
they are one fused, and one foreach, kernel already.

`--dtype bf16` is autocast: weights stay f32. On cuda, f32 keeps products in 32 bits throughout, tf32
lets cuBLAS and cuDNN round their factors, and cuDNN tries its algorithms in the warm-up.
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
except ImportError as error:
    sys.exit(
        f"error: {error}; install what is needed with: {sys.executable} -m pip install torch diffusers"
    )
try:
    from diffusers import DDIMScheduler, UNet2DModel
    from diffusers import __version__ as diffusers_version
    from diffusers.training_utils import EMAModel
except ImportError:
    sys.dont_write_bytecode = True  # of a folder that is not ours to write to
    from unet import DDIMScheduler, UNet2DModel

    diffusers_version = EMAModel = None


def main():
    args = arguments()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    tasks = {
        "info": info,
        "network": network,
        "sample": sample,
        "make-model": make_model,
        "matmul": matmul,
        "same": same,
    }
    try:
        set_up(args)
        line = tasks[args.task](args)
    except Exception as error:  # whatever torch raises is the reason that the caller reports
        sys.exit(f"error: {reason(error)}")
    print(json.dumps(line))


def arguments():
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--threads", type=int, default=0, help="0 leaves torch's own choice")
    shared.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    modes = ["eager", "channels_last", "compile", "graphs"]
    shared.add_argument("--mode", choices=modes, default="eager")
    shared.add_argument("--dtype", choices=["f32", "tf32", "bf16"], default="f32")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("info", parents=[shared], help="versions of what is measured")
    tasks.add_parser("matmul", parents=[shared], help="the most that matrix products reach")

    task = tasks.add_parser("network", parents=[shared], help="time training steps and forwards")
    task.add_argument("--config", required=True)
    task.add_argument("--batch", type=int, default=8)
    task.add_argument("--steps", type=int, default=5, help="windows that are measured")
    task.add_argument("--window", type=int, default=1, help="repetitions that are timed together")
    task.add_argument("--warmup", type=int, default=3, help="repetitions before them")
    task.add_argument("--seconds", type=float, default=math.inf, help="no new window after these")
    task.add_argument("--only", choices=["train", "forward", "both"], default="both")

    task = tasks.add_parser("sample", parents=[shared], help="draw images by DDIM into one PNG")
    task.add_argument("--model", required=True)
    task.add_argument("--n", type=int, default=16)
    task.add_argument("--steps", type=int, default=50)
    task.add_argument("--out", required=True)

    task = tasks.add_parser("make-model", parents=[shared], help="write a model directory")
    task.add_argument("--config", required=True)
    task.add_argument("--to", required=True)

    task = tasks.add_parser("same", parents=[shared], help="compare unet.py with diffusers")
    task.add_argument("--config", required=True)
    return parser.parse_args()


def set_up(args):
    if args.device == "cpu":
        if args.dtype == "tf32" or args.mode == "graphs":
            raise ValueError("tf32 and graphs are for --device cuda")
        return
    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no CUDA device")
    rounded = args.dtype != "f32"
    torch.backends.cuda.matmul.allow_tf32 = rounded
    torch.backends.cudnn.allow_tf32 = rounded
    torch.backends.cudnn.benchmark = True


def info(args):
    line = {
        "program": f"torch {torch.__version__}",
        "torch": torch.__version__,
        "diffusers": diffusers_version,
        "network": f"diffusers {diffusers_version}" if diffusers_version else "in plain torch",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if args.device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        line["gpu"] = gpu.name
        line["gpu_bytes"] = gpu.total_memory
        line["gpu_processors"] = gpu.multi_processor_count
        line["driver"] = driver()
        line["cuda"] = torch.version.cuda
    return line


def driver():
    """The driver's version, which torch does not know; None without nvidia-smi."""
    import subprocess

    command = ["nvidia-smi", "--id=0", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip() or None


def network(args):
    config = read_config(args.config)
    model, net = prepare(UNet2DModel(**config), args)
    shape = (args.batch, model.config.in_channels, *image_size(model))
    x0, noise = placed(torch.randn(shape), args), placed(torch.randn(shape), args)
    t = torch.randint(0, 1000, (args.batch,)).to(args.device)
    line = {
        "program": f"torch {torch.__version__}",
        "device": args.device,
        "mode": args.mode,
        "dtype": args.dtype,
        "batch": args.batch,
        "window": args.window,
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }

    def put(name, measured):
        line[f"{name}_images_per_s"] = args.batch / statistics.median(measured["seconds"])
        line[f"{name}_seconds_by_step"] = measured["seconds"]
        line[f"{name}_warmup_s"] = measured["warmup_s"]
        line[f"{name}_unix_s"] = measured["unix_s"]

    if args.only != "forward":
        model.train()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=args.device == "cuda")
        average = moving_average(model, args)

        def train_step():
            begin(args)
            if args.device == "cuda":
                optimiser.zero_grad()  # the old gradients would take memory during the forward pass
            with autocast(args):
                y = net(0.7 * x0 + 0.7 * noise, t).sample
            loss = (y.float() - noise).square().mean()
            if args.device == "cpu":
                optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            average()

        measured = clock(train_step, args)
        line["train_step_s"] = statistics.median(measured["seconds"])
        put("train", measured)
        # Before the forward passes, so that this is the peak of training.
        line.update(memory(args))
    if args.only != "train":
        model.eval()

        def forward():
            begin(args)
            with torch.inference_mode(), autocast(args):
                net(x0, t)

        measured = clock(forward, args)
        line["forward_s"] = statistics.median(measured["seconds"])
        put("forward", measured)
        if args.only == "forward":
            line.update(memory(args))
    return line


def moving_average(model, args):
    """What moves the averaged weights by a step."""
    parameters = list(model.parameters())
    if args.device == "cpu" and EMAModel is not None:
        ema = EMAModel(parameters, decay=0.9999)
        return lambda: ema.step(parameters)
    shadow = [parameter.detach().clone() for parameter in parameters]

    def step():
        with torch.no_grad():
            torch._foreach_lerp_(shadow, parameters, 1 - 0.9999)

    return step


def sample(args):
    start = time.perf_counter()
    pipeline = os.path.isdir(os.path.join(args.model, "unet"))
    model = UNet2DModel.from_pretrained(
        args.model, subfolder="unet" if pipeline else None, low_cpu_mem_usage=False
    )
    model, net = prepare(model.eval(), args)
    # The defaults are what a model directory without a scheduler_config.json means to `ddpm sample`.
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(args.steps)
    shape = (args.n, model.config.in_channels, *image_size(model))
    x = placed(torch.randn(shape), args)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            begin(args)
            with autocast(args):
                eps = net(x, t.to(args.device)).sample
            x = scheduler.step(eps.float(), t, x).prev_sample
    save_grid(x.cpu(), args.out)
    return {"images": args.n, "steps": args.steps, "seconds": time.perf_counter() - start}


def make_model(args):
    model = UNet2DModel(**read_config(args.config))
    model.save_pretrained(args.to)
    return {"model": args.to, "parameters": sum(p.numel() for p in model.parameters())}


def matmul(args):
    """Operations a second of square products on random numbers, the best of several sizes, by dtype."""
    cuda = args.device == "cuda"
    sizes = [2048, 4096, 8192, 16384] if cuda else [512, 1024, 2048]
    dtypes = ["f32", "tf32", "bf16"] if cuda else ["f32"]
    peaks = {}
    for name in dtypes:
        if cuda:
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        peaks[name] = max(product_flops(size, dtype, args) for size in sizes)
    return {"device": args.device, "peak_flops": peaks}


def product_flops(size, dtype, args):
    a, b = (torch.randn(size, size, device=args.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    for _ in range(3):
        torch.mm(a, b, out=out)
    best, begun = 0.0, time.perf_counter()
    while time.perf_counter() - begun < 0.3:
        synchronise(args)
        start = time.perf_counter()
        for _ in range(3):
            torch.mm(a, b, out=out)
        synchronise(args)
        best = max(best, 3 * 2 * size**3 / (time.perf_counter() - start))
    return best


def same(args):
    """The largest difference between diffusers' network and `unet.py`, relative to the output."""
    if diffusers_version is None:
        raise RuntimeError("there is no diffusers to compare with")
    import unet

    config = read_config(args.config)
    theirs, plain = UNet2DModel(**config).eval(), unet.UNet2DModel(**config).eval()
    plain.load_state_dict(theirs.state_dict())
    x, t = torch.randn(2, theirs.config.in_channels, *image_size(theirs)), torch.tensor([3, 700])
    ours, schedule = unet.DDIMScheduler(), DDIMScheduler()
    with torch.inference_mode():
        y, z = theirs(x, t).sample, plain(x, t).sample
    network_error = float((y - z).abs().max() / y.abs().max())
    drawn = []
    for scheduler in (schedule, ours):
        scheduler.set_timesteps(7)
        drawn.append(x)
        for step in scheduler.timesteps:
            drawn[-1] = scheduler.step(0.3 * drawn[-1].roll(1, -1), step, drawn[-1]).prev_sample
    sampler_error = float((drawn[0] - drawn[1]).abs().max())
    if not max(network_error, sampler_error) < 1e-4:
        raise RuntimeError(f"they differ: network {network_error:.1e}, DDIM {sampler_error:.1e}")
    return {"network_error": network_error, "sampler_error": sampler_error}


def read_config(path):
    with open(path, encoding="utf-8") as file:
        return {key: value for key, value in json.load(file).items() if not key.startswith("_")}


def image_size(model):
    size = model.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def prepare(model, args):
    """The model in the mode's place and memory layout, and what is to be called instead of it."""
    model = model.to(args.device)
    if args.mode != "eager":
        model = model.to(memory_format=torch.channels_last)
    if args.mode == "compile":
        return model, torch.compile(model)
    if args.mode == "graphs":
        return model, torch.compile(model, mode="reduce-overhead")
    return model, model


def placed(images, args):
    images = images.to(args.device)
    if args.device == "cuda" and args.mode != "eager":
        images = images.to(memory_format=torch.channels_last)
    return images


def autocast(args):
    return torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bf16")


def begin(args):
    """Says that the tensors of the step before are done with, which replayed graphs overwrite."""
    if args.mode == "graphs":
        torch.compiler.cudagraph_mark_step_begin()


def synchronise(args):
    if args.device == "cuda":
        torch.cuda.synchronize()


def clock(work, args):
    """Seconds of a repetition in each window after the warm-up, which takes torch.compile's time too."""
    begun = time.perf_counter()
    for _ in range(args.warmup):
        work()
    synchronise(args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    warmup_s, unix_s, seconds = time.perf_counter() - begun, time.time(), []
    measured = time.perf_counter()
    for _ in range(args.steps):
        start = time.perf_counter()
        for _ in range(args.window):
            work()
        synchronise(args)
        seconds.append((time.perf_counter() - start) / args.window)
        if time.perf_counter() - measured > args.seconds:
            break
    return {"seconds": seconds, "warmup_s": warmup_s, "unix_s": [unix_s, time.time()]}


def memory(args):
    """The most memory so far: of the process, or on cuda of the measured steps on the device."""
    if args.device == "cpu":
        return {"peak_bytes": peak_bytes()}
    return {
        "peak_bytes": torch.cuda.max_memory_reserved(),
        "allocated_bytes": torch.cuda.max_memory_allocated(),
        "resident_bytes": peak_bytes(),
    }


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
