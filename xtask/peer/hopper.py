"""The kernel for Hopper's warpgroup matrix units alone: is it right, and how fast is it?

Needs an NVIDIA card of compute capability 9.0, torch, and NVRTC with the toolkit's headers (CUDA_PATH).

    hopper.py check     every kind of product on odd and even sizes, against torch in f64: a line a size
    hopper.py speed     TFLOP/s of the 3x3 convolutions of a U-Net, and what cuDNN reaches

The kernels' texts are looked for beside this file, then where the workspace has them. What is packed below is each
text's `Sizes`.
"""

import ctypes
import functools
import os
import pathlib
import struct
import sys

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
PLACES = [HERE, HERE.parents[1] / "crates/ddpm-kernels/src/cube/hopper"]
TILES = [(128, 128), (64, 128), (64, 64)]
# Roundings of a bf16 result, relative; of an f32 one, sums of some thousand products.
LIMITS = {torch.bfloat16: 2.5e-3, torch.float32: 5e-6}


def nvrtc(text):
    """PTX of CUDA C++ for sm_90a."""
    library = ctypes.CDLL("libnvrtc.so")
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), None, 0, None, None)
    include = os.environ.get("CUDA_PATH", "/usr/local/cuda") + "/include"
    options = [b"--gpu-architecture=sm_90a", f"--include-path={include}".encode()]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if failed:
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        raise RuntimeError(log.value.decode())
    size = ctypes.c_size_t()
    library.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    library.nvrtcGetPTX(program, ptx)
    return ptx


@functools.cache
def driver():
    torch.zeros(1, device="cuda")
    return ctypes.CDLL("libcuda.so.1")


@functools.cache
def product(tile, along, result, taps_within):
    defines = {
        "RESULT": result,
        "ROWS": tile[0],
        "COLUMNS": tile[1],
        "LEFT_ALONG": along[0],
        "RIGHT_ALONG": along[1],
        "TAPS_WITHIN": taps_within,
    }
    return kernel("product", defines)


@functools.cache
def window(columns):
    return kernel("window", {"COLUMNS": columns})


def kernel(name, defines):
    texts = {file: next(path for folder in PLACES if (path := folder / f"{file}.cu").is_file()) for file in ("common", name)}
    defines = {"VALUE": "__nv_bfloat16", "WGMMA_TYPE": '"bf16"', **defines}
    front = "".join(f"#define {key} {value}\n" for key, value in defines.items())
    text = front + "".join(path.read_text() for path in texts.values())
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    well(driver().cuModuleLoadData(ctypes.byref(module), nvrtc(text)))
    well(driver().cuModuleGetFunction(ctypes.byref(function), module, f"hopper_{name}".encode()))
    return function


def well(error):
    if error:
        raise RuntimeError(f"the driver's error {error}")


def up(a, b):
    return -(-a // b)


def magic(d):
    """As `magic` in `hopper/mod.rs`."""
    if d == 1:
        return 0, 0
    log = (d - 1).bit_length()
    return up(1 << (31 + log), d), log - 1


def launch(tile, along, result, tensors, sizes, places, around, added=(0, 0), parts=1, matrices=1, heads=1):
    """One product; `sizes` are m, n, depth and part, `around` is from `channels` to `sign`."""
    (m, n, _, _), channels = sizes, around[0]
    function = product(tile, along, result, int(along[0] and channels % 32 == 0))
    columns = up(n, tile[1])
    around = list(around)
    divisors = magic(around[3]) + magic(around[4])
    words = [*sizes, *places[0], *places[1], *places[2], heads, columns, *around, *added, *divisors]
    info = struct.pack("<25I3i6I", *words)
    start(function, (up(m, tile[0]) * columns, parts, matrices), 128, tensors, info)


def start(function, blocks, threads, tensors, info):
    info = ctypes.create_string_buffer(info)
    pointers = [ctypes.c_uint64((tensors[0] if x is None else x).data_ptr()) for x in tensors]
    values = [ctypes.cast(ctypes.byref(p), ctypes.c_void_p) for p in pointers]
    values.append(ctypes.cast(info, ctypes.c_void_p))
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    arguments = (ctypes.c_void_p * len(values))(*values)
    well(driver().cuLaunchKernel(function, *blocks, threads, 1, 1, 0, stream, arguments, None))


def unwritten(*shape, dtype=torch.bfloat16):
    return torch.full(shape, float("nan"), device="cuda", dtype=dtype)


def dense(pitch):
    return (pitch, 0, 0, 0)


def forward(x, w, stride=1, bias=None, residual=None, tile=TILES[0], out=None):
    """x [batch, height, width, in] by w [out, k, k, in]."""
    (batch, h, width, c), (o, k, _, _) = x.shape, w.shape
    oh, ow = ((side + 2 * (k // 2) - k) // stride + 1 for side in (h, width))
    out = unwritten(batch, oh, ow, o) if out is None else out
    depth = k * k * c
    around = (c, h, width, ow, oh * ow, k, k * k, stride, k // 2, 1)
    added = (0 if bias is None else bias.shape[0], int(residual is not None))
    sizes = (batch * oh * ow, o, depth, depth)
    places = (dense(c), dense(depth), dense(o))
    launch(tile, (1, 1), "VALUE", (x, w, out, bias, residual), sizes, places, around, added)
    return out


def data_gradient(dy, w, h, width, tile=TILES[0], out=None):
    (batch, oh, ow, o), (_, k, _, c) = dy.shape, w.shape
    out = unwritten(batch, h, width, c) if out is None else out
    around = (o, oh, ow, width, h * width, k, k * k, 1, -(k // 2), -1)
    sizes = (batch * h * width, c, k * k * o, k * k * o)
    places = (dense(o), dense(k * k * c), dense(c))
    launch(tile, (1, 0), "VALUE", (dy, w, out, None, None), sizes, places, around)
    return out


def weight_gradient(x, dy, k, stride=1, tile=TILES[0], parts=1, out=None):
    """[parts, out, k * k * in], to be summed over the parts."""
    (batch, h, width, c), (_, oh, ow, o) = x.shape, dy.shape
    depth, n = batch * oh * ow, k * k * c
    part = up(up(depth, parts), 32) * 32
    parts = up(depth, part)
    out = unwritten(parts, o, n, dtype=torch.float32) if out is None else out
    around = (c, h, width, ow, oh * ow, k, k * k, stride, k // 2, 1)
    places = (dense(o), dense(c), dense(n))
    launch(tile, (0, 0), "float", (dy, x, out, None, None), (o, n, depth, part), places, around, parts=parts)
    return out


def sliced(w):
    """A weight [out, 3, 3, in] as `window.cu` reads it."""
    n, _, _, c = w.shape
    return w.reshape(n // 128, 128, 9, c // 16, 2, 8).permute(0, 3, 2, 4, 1, 5).contiguous()


def mirrored(w):
    """The weight with which the gradient of an input is a convolution."""
    return w.permute(3, 1, 2, 0).flip(1, 2)


def windowed(x, w, n, bias=None, residual=None, out=None, wide=128):
    """3x3 convolutions by `window.cu`; w is sliced."""
    batch, h, width, c = x.shape
    out = unwritten(batch, h, width, n) if out is None else out
    across, columns = width // 16, n // wide
    blocks = across * (h // 16)
    count = batch * blocks * columns
    bias_rows = 0 if bias is None else bias.shape[0]
    info = struct.pack("<10I", c, n, h, width, across, blocks, columns, count, bias_rows, int(residual is not None))
    start(window(wide), (min(count, multiprocessors()), 1, 1), 384, (x, w, out, bias, residual), info)
    return out


@functools.cache
def multiprocessors():
    return torch.cuda.get_device_properties(0).multi_processor_count


def attention(qkv, heads):
    """Scores, weights and results of qkv [batch, tokens, 3 * heads * dim]."""
    batch, tokens, inner = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    dim = inner // heads
    part = lambda i: (3 * inner, i * inner, tokens * 3 * inner, dim)
    square = (tokens, 0, heads * tokens * tokens, tokens * tokens)
    matrix = lambda channels: (channels, tokens, 1, 1, tokens, 1, 1, 1, 0, 1)
    many = {"matrices": batch * heads, "heads": heads}
    scores = unwritten(batch, heads, tokens, tokens, dtype=torch.float32)
    sizes = (tokens, tokens, dim, dim)
    launch(TILES[0], (1, 1), "float", (qkv, qkv, scores, None, None), sizes, (part(0), part(1), square), matrix(dim), **many)
    weights = torch.softmax(scores * dim**-0.5, -1).bfloat16()
    y = unwritten(batch, tokens, inner)
    sizes, line = (tokens, dim, tokens, tokens), (inner, 0, tokens * inner, dim)
    launch(TILES[0], (1, 0), "VALUE", (weights, qkv, y, None, None), sizes, (square, part(2), line), matrix(tokens), **many)
    return scores, weights, y


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def nchw(x):
    return x.permute(0, 3, 1, 2).double()


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def check():
    wrong = 0

    def compare(what, found, expected):
        nonlocal wrong
        error = ((found.double() - expected).norm() / expected.norm()).item()
        right = error <= LIMITS[found.dtype]
        wrong += not right
        errors.append(f"{what} {error:.1e}{'' if right else ' WRONG'}")

    for batch, h, w, c, o, k, stride in [
        (4, 16, 16, 64, 128, 3, 1),
        (3, 9, 7, 96, 72, 3, 1),
        (2, 8, 8, 128, 64, 1, 1),
        (5, 8, 8, 64, 128, 3, 2),
        (2, 12, 12, 8, 64, 3, 1),
        (2, 12, 12, 64, 8, 3, 1),
        (3, 8, 8, 24, 40, 3, 1),
        (2, 11, 13, 32, 200, 5, 1),
        (1, 5, 5, 64, 64, 3, 1),
        (3, 16, 16, 128, 256, 3, 1),
        (2, 32, 48, 256, 128, 3, 1),
        (2, 16, 32, 384, 128, 3, 1),
    ]:
        errors = []
        x, weight = random(batch, h, w, c), random(o, k, k, c) * 0.1
        y = F.conv2d(nchw(x), nchw(weight), stride=stride, padding=k // 2)
        dy, bias = random(*nhwc(y).shape), torch.randn(batch, o, device="cuda")
        wanted = nhwc(y) + bias.double()[:, None, None] + dy.double()
        dw = torch.nn.grad.conv2d_weight(nchw(x), nchw(weight).shape, nchw(dy), stride=stride, padding=k // 2)
        for tile in TILES:
            compare("y", forward(x, weight, stride, tile=tile), nhwc(y))
            compare("y + ..", forward(x, weight, stride, bias, dy, tile), wanted)
            if stride == 1:
                dx = F.conv_transpose2d(nchw(dy), nchw(weight), padding=k // 2)
                compare("dx", data_gradient(dy, weight, h, w, tile), nhwc(dx))
        if k == 3 and stride == 1 and h % 16 == w % 16 == c % 128 == o % 128 == 0:
            slices, back = sliced(weight), sliced(mirrored(weight))
            compare("window y", windowed(x, slices, o), nhwc(y))
            compare("window y + ..", windowed(x, slices, o, bias, dy), wanted)
            compare("window y + b", windowed(x, slices, o, bias[:1]), nhwc(y) + bias[:1].double()[:, None, None])
            compare("window dx", windowed(dy, back, c), nhwc(dx))
            compare("window 64 y + ..", windowed(x, slices, o, bias, dy, wide=64), wanted)
            compare("window 64 dx", windowed(dy, back, c, wide=64), nhwc(dx))
        for tile, parts in [((128, 128), 1), ((128, 128), 3), ((64, 64), 3)]:
            found = weight_gradient(x, dy, k, stride, tile, parts).sum(0)
            compare("dw", found, nhwc(dw).reshape(o, -1))
        print((batch, h, w, c, o, k, stride), *errors, flush=True)
    for batch, tokens, heads, dim in [(3, 256, 1, 256), (2, 64, 2, 64), (2, 96, 1, 96)]:
        errors = []
        qkv = random(batch, tokens, 3 * heads * dim)
        split = lambda x: x.reshape(batch, tokens, heads, dim).transpose(1, 2).double()
        q, key, v = map(split, qkv.chunk(3, -1))
        scores, weights, y = attention(qkv, heads)
        compare("scores", scores, q @ key.transpose(-1, -2))
        compare("values", split(y).bfloat16(), weights.double() @ v)
        print((batch, tokens, heads, dim), *errors, flush=True)
    if wrong:
        sys.exit(f"error: {wrong} results are wrong")


def milliseconds(work, times=10):
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            work()
    graph.replay()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / times


def speed():
    torch.backends.cudnn.benchmark = True
    print("batch, side, in, out: forward, dx, dw (its parts not yet summed); by window.cu forward, dx; cuDNN's forward, dx, dw; all in TFLOP/s")
    for batch, side, c, o in [
        (128, 32, 128, 128),
        (128, 32, 256, 128),
        (128, 32, 384, 128),
        (128, 16, 256, 256),
        (128, 16, 512, 256),
        (128, 8, 256, 256),
        (128, 8, 512, 256),
        (16, 128, 128, 128),
    ]:
        x, w, dy = random(batch, side, side, c), random(o, 3, 3, c) * 0.1, random(batch, side, side, o)
        y, dx = torch.empty_like(dy), torch.empty_like(x)
        slices, mirror = sliced(w), sliced(mirrored(w))
        parts = max(1, 3 * 132 // (up(o, 128) * up(9 * c, 128)))
        dw = weight_gradient(x, dy, 3, parts=parts)
        flops = 2e-9 * batch * side * side * c * o * 9
        last = [t.permute(0, 3, 1, 2) for t in (dy, x, w)]
        back = lambda *wanted: torch.ops.aten.convolution_backward(
            *last, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*wanted, False]
        )
        rates = [
            flops / milliseconds(work)
            for work in [
                lambda: forward(x, w, out=y),
                lambda: data_gradient(dy, w, side, side, out=dx),
                lambda: weight_gradient(x, dy, 3, parts=parts, out=dw),
                *([
                    lambda: windowed(x, slices, o, out=y),
                    lambda: windowed(dy, mirror, c, out=dx),
                ] if side % 16 == 0 else []),
                lambda: F.conv2d(last[1], last[2], padding=1),
                lambda: back(True, False),
                lambda: back(False, True),
            ]
        ]
        print((batch, side, c, o), " ".join(f"{rate:.0f}" for rate in rates), flush=True)


if __name__ == "__main__":
    tasks = {"check": check, "speed": speed}
    if not sys.argv[1:] or any(task not in tasks for task in sys.argv[1:]):
        sys.exit(__doc__)
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}", flush=True)
    for task in sys.argv[1:]:
        tasks[task]()
