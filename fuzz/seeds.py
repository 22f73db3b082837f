"""Writes the seed corpora and the odd images of tests/fixtures: python3 fuzz/seeds.py, in the repository's top.

Needs numpy and Pillow. Every file is made here from nothing; a few of each kind are broken on purpose.
"""

import gzip
import io
import json
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
from PIL import Image

TOP = pathlib.Path(__file__).resolve().parent.parent
CORPUS = TOP / "fuzz" / "corpus"
IMAGES = TOP / "tests" / "fixtures" / "images"


def seed(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def pattern(height, width, channels, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors():
    entry = lambda dtype, shape, start, end: {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    floats = np.arange(6, dtype="<f4").tobytes()
    seed("safetensors", "two", safetensors(
        {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 2], 0, 16), "b": entry("F32", [2], 16, 24)}, floats))
    seed("safetensors", "types", safetensors(
        {"h": entry("F16", [2], 0, 4), "b": entry("BF16", [2], 4, 8), "i": entry("I64", [1], 8, 16),
         "u": entry("U8", [3], 16, 19), "e": entry("F64", [0], 19, 19), "s": entry("I8", [], 19, 20)}, bytes(20)))
    seed("safetensors", "overlap", safetensors(
        {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)))
    seed("safetensors", "cut", safetensors({"a": entry("F32", [6], 0, 24)}, floats)[:-5])
    seed("safetensors", "overflow", safetensors({"a": entry("F32", [2**62, 2**62], 0, 4)}, bytes(4)))
    seed("safetensors", "twice", safetensors(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        bytes(2)))
    weights = {f"w{i}": "one.safetensors" if i < 2 else "two.safetensors" for i in range(4)}
    seed("sharded_index", "four", json.dumps({"metadata": {"total_size": 32}, "weight_map": weights}, indent=1))
    seed("sharded_index", "elsewhere", json.dumps({"weight_map": {"w0": "../secret.safetensors"}}))
    seed("sharded_index", "missing", json.dumps({"weight_map": {"w0": "three.safetensors"}}))
    seed("sharded_index", "wrong", json.dumps({"weight_map": {"w3": "one.safetensors"}}))
    seed("sharded_index", "deep", '{"weight_map":' + "[" * 500)


def descriptions():
    network = json.loads((TOP / "tests/fixtures/tiny-unet/config.json").read_text())
    seed("network", "tiny", json.dumps(network, indent=1))
    seed("network", "empty", "{}")
    seed("network", "plain", json.dumps({"_class_name": "PlainUNet", "channels": 1, "features": [4, 8], "steps": 50}))
    seed("network", "other", json.dumps({"_class_name": "UNet2DConditionModel"}))
    seed("network", "classes", json.dumps(network | {"num_class_embeds": 10, "time_embedding_type": "fourier"}))
    seed("network", "layers", json.dumps(network | {"layers_per_block": 1 << 20}))
    seed("network", "size", json.dumps(network | {"sample_size": 2**64 - 1}))
    scheduler = {
        "_class_name": "DDPMScheduler", "num_train_timesteps": 100, "beta_start": 0.0001, "beta_end": 0.02,
        "beta_schedule": "linear", "variance_type": "fixed_small", "clip_sample": True, "prediction_type": "epsilon",
        "thresholding": False, "timestep_spacing": "leading", "steps_offset": 0, "rescale_betas_zero_snr": False,
    }
    seed("scheduler", "linear", json.dumps(scheduler, indent=1))
    seed("scheduler", "cosine", json.dumps(
        scheduler | {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True,
                     "prediction_type": "v_prediction", "thresholding": True}))
    seed("scheduler", "listed", json.dumps({"trained_betas": [0.1, 0.2, 0.3, 0.4], "steps_offset": 1}))
    seed("scheduler", "steps", json.dumps({"num_train_timesteps": 10**12}))
    seed("scheduler", "range", json.dumps(scheduler | {"beta_end": 1e308}))
    seed("scheduler", "word", json.dumps(scheduler | {"beta_schedule": "laplace"}))


def configurations():
    for recipe in ("digits", "tutorial", "ddpm-cifar10", "sprites"):
        seed("configuration", recipe, (TOP / "configs" / f"{recipe}.toml").read_bytes())
    seed("configuration", "wide", """seed = 7
[data]
kind = "folder"
path = "images"
size = [24, 32]
background = "#102030"
fit = "pad"
on_bad = "skip"
[schedule]
kind = "custom"
betas = [0.1, 0.2, 0.3]
steps = 3
[objective]
prediction = "v"
weighting = { kind = "min_snr", gamma = 5.0 }
[train]
epochs = 3
[sample]
sampler = "ddim"
steps = 2
""")
    seed("configuration", "typo", "[train]\nbtach = 3\n")
    seed("configuration", "type", "[train]\nbatch = \"many\"\n[data]\nsize = -1\n")
    seed("configuration", "deep", "a = " + "[" * 2000)
    seed("configuration", "keys", "a." * 2000 + "a = 1\n")


def idx(magic, axes, data):
    return bytes(magic) + b"".join(struct.pack(">I", axis) for axis in axes) + data


def arrays():
    images = idx([0, 0, 8, 3], [5, 4, 3], pattern(5, 12, 1).tobytes())
    labels = idx([0, 0, 8, 1], [5], bytes([0, 1, 2, 9, 1]))
    for target, pack in (("idx", lambda data: data), ("idx_gzip", lambda data: gzip.compress(data, mtime=0))):
        seed(target, "images", pack(images))
        seed(target, "labels", pack(labels))
        seed(target, "claims", pack(idx([0, 0, 8, 3], [2**32 - 1] * 3, bytes(9))))
        seed(target, "none", pack(idx([0, 0, 8, 3], [0, 4, 3], b"")))
        seed(target, "long", pack(images + b"more"))
    seed("idx_gzip", "cut", gzip.compress(images, mtime=0)[:-9])
    seed("idx_gzip", "members", gzip.compress(images[:20], mtime=0) + gzip.compress(images[20:], mtime=0))
    ten = lambda label: bytes([label]) + pattern(32, 32, 3).tobytes()
    seed("cifar10", "two", ten(3) + ten(9))
    seed("cifar10", "class", ten(10))
    seed("cifar10", "cut", ten(3)[:-1])
    hundred = lambda label: bytes([1, label]) + pattern(32, 32, 3).tobytes()
    seed("cifar100", "two", hundred(3) + hundred(99))
    seed("cifar100", "class", hundred(100))
    seed("cifar100", "long", hundred(3) + b"x")

    def npy(array):
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()

    bytes_ = pattern(30, 6, 3).reshape(6, 5, 6, 3)
    seed("npy", "bytes", npy(bytes_))
    seed("npy", "grey", npy(bytes_[..., 0]))
    seed("npy", "floats", npy((bytes_ / 255).astype("<f4")))
    seed("npy", "doubles", npy((bytes_ / 127.5 - 1).astype(">f8")))
    seed("npy", "halves", npy((bytes_ / 255).astype("<f2")))
    seed("npy", "words", npy(bytes_.astype(">u2") * 257))
    seed("npy", "masks", npy(bytes_ > 127))
    seed("npy", "overshoot", npy((bytes_ / 240 - 0.03).astype("<f4")))
    seed("npy", "single", npy(bytes_[0]))
    seed("npy", "fortran", npy(np.asfortranarray(bytes_)))
    seed("npy", "nan", npy(np.full((1, 5, 5), np.nan)))
    claim = npy(bytes_).replace(b"(6, 5, 6, 3)", b"(6,999999999,9,1)")
    seed("npy", "claims", claim)

    def npz(**named):
        out = io.BytesIO()
        np.savez_compressed(out, **named)
        return out.getvalue()

    numbers = np.array([0, 3, 1, 1, 0, 2])
    seed("npz", "both", npz(images=bytes_, labels=numbers))
    seed("npz", "split", npz(x_train=bytes_[..., 0], y_train=numbers[:, None].astype("<i2"), x_test=bytes_))
    seed("npz", "only", npz(anything=bytes_[..., :1]))
    seed("npz", "labels", npz(images=bytes_, labels=numbers - 1))
    seed("npz", "one_hot", npz(images=bytes_, labels=np.eye(4, dtype="<f4")[numbers]))
    seed("npz", "names", npz(images=bytes_, labels=np.array(["cat", "dog"] * 3)))
    seed("npz", "cut", npz(images=bytes_)[:-30])
    # One array whose name has a line break, and no local header.
    broken = npz(only=bytes_).replace(b"only.npy", b"on\ny.npy")
    seed("npz", "name", broken.replace(b"PK\x03\x04", b"PK\x07\x04"))


def pictures():
    colour = Image.fromarray(pattern(5, 7, 3))
    grey = colour.convert("L")
    clear = Image.fromarray(pattern(5, 7, 4), "RGBA")
    smooth = Image.fromarray(np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8))
    deep = Image.fromarray((np.arange(35, dtype=np.uint16) * 1800).reshape(5, 7))
    made = {
        "rgb.png": encoded(colour, "PNG"), "rgba.png": encoded(clear, "PNG"), "palette.png": encoded(colour.quantize(8), "PNG"),
        "bit.png": encoded(grey.convert("1"), "PNG"), "deep.png": encoded(deep, "PNG"),
        "turned.png": encoded(colour, "PNG", exif=exif(6)), "rgb.jpg": encoded(smooth, "JPEG", quality=90),
        "progressive.jpg": encoded(smooth, "JPEG", progressive=True), "grey.jpg": encoded(smooth.convert("L"), "JPEG"),
        "turned.jpg": encoded(smooth, "JPEG", exif=exif(8)), "cmyk.jpg": encoded(smooth.convert("CMYK"), "JPEG"),
        "lossy.webp": encoded(smooth, "WEBP", quality=60), "lossless.webp": encoded(clear, "WEBP", lossless=True),
        "moving.webp": encoded(smooth, "WEBP", save_all=True, append_images=[smooth.rotate(90)]),
        "still.gif": encoded(grey.quantize(4), "GIF"),
        "moving.gif": encoded(grey.quantize(4), "GIF", save_all=True, append_images=[grey.rotate(180).quantize(4)]),
        "rgb.bmp": encoded(colour, "BMP"), "palette.bmp": encoded(colour.quantize(8), "BMP"),
        "rgb.tif": encoded(colour, "TIFF"), "packed.tif": encoded(colour, "TIFF", compression="tiff_lzw"),
        "deflated.tif": encoded(deep, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": encoded(grey, "TIFF", compression="packbits"),
    }
    for name, data in made.items():
        seed("image", name, data)
    seed("image", "cut.png", made["rgb.png"][:60])
    seed("image", "cut.jpg", made["rgb.jpg"][:-20])
    seed("image", "page.jpg", "<html><body>404</body></html>")
    claiming = bytearray(made["rgb.bmp"])
    claiming[18:26] = struct.pack("<ii", 60000, 60000)
    seed("image", "claims.bmp", bytes(claiming))

    def archive(files, method=zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as made_zip:
            for name, data in files:
                made_zip.writestr(zipfile.ZipInfo(name), data, method)
        return out.getvalue()

    png = lambda number: encoded(Image.fromarray(pattern(4, 4, 3, number)), "PNG")
    good = [("top/a/1.png", png(1)), ("top/a/2.png", png(2)), ("top/b/3.png", png(3))]
    seed("zip", "classes", archive(good))
    seed("zip", "stored", archive(good, zipfile.ZIP_STORED))
    seed("zip", "odd", archive([("__MACOSX/._1.png", b"x"), ("./1", png(4)), ("/etc/2.png", png(5)), ("b\\3.png", png(6))]))
    seed("zip", "bad", archive(good[:1] + [("page.jpg", b"<html>"), ("empty.png", b"")]))
    seed("zip", "cut", archive(good)[:-40])

    # For the tests of what becomes of odd images: large blocks of one colour, so that no codec blurs them.
    IMAGES.mkdir(parents=True, exist_ok=True)
    blocks = np.zeros((16, 32, 3), np.uint8)
    blocks[:, :16] = [255, 0, 0]
    blocks[:, 16:] = [0, 0, 255]
    halves = Image.fromarray(blocks)
    jpeg = dict(quality=100, subsampling=0)
    odd = {f"turned-{turn}.jpg": encoded(halves, "JPEG", exif=exif(turn), **jpeg) for turn in (1, 3, 6, 8)}
    odd |= {
        "turned-6.webp": encoded(halves, "WEBP", exif=exif(6), lossless=True, exact=True),
        "turned-6.png": encoded(halves, "PNG", exif=exif(6)),
        "cmyk.jpg": encoded(halves.convert("CMYK"), "JPEG", **jpeg),
        "progressive.jpg": encoded(halves, "JPEG", progressive=True, **jpeg),
        "deep.png": encoded(Image.fromarray(np.full((8, 8), 0x8080, np.uint16)), "PNG"),
        "pixel.png": encoded(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG"),
        "png-named.jpg": encoded(halves, "PNG"),
        "jpeg-named.png": encoded(halves, "JPEG", **jpeg),
        "halves.gif": encoded(halves.quantize(4), "GIF"),
        "halves.bmp": encoded(halves, "BMP"),
        "halves.tif": encoded(halves, "TIFF", compression="tiff_lzw"),
        "halves.webp": encoded(halves, "WEBP", quality=90),
        "halves.png": encoded(halves, "PNG"),
    }
    for name, data in odd.items():
        (IMAGES / name).write_bytes(data)


def manifests():
    # `whole` is ddpm-store's, of the checkpoint in tests/src/hostile/parsers.rs: it is sealed with a digest.
    whole = (CORPUS / "manifest" / "whole").read_bytes()
    seed("manifest", "altered", whole.replace(b'"images_seen": 24', b'"images_seen": 25'))
    seed("manifest", "later", whole.replace(b'"schema": 1', b'"schema": 99'))
    seed("manifest", "cut", whole[:300])
    seed("manifest", "elsewhere", whole.replace(b"state.json", b"../../st.x"))


def torch_files():
    """What torch.save and pickle.dump write, without torch: functions of its names, which are pickled and never called."""
    names = {
        "torch": ["FloatStorage", "HalfStorage"], "torch._utils": ["_rebuild_tensor_v2", "_rebuild_parameter"],
        "torch.storage": ["_load_from_bytes"], "torch_utils": [],
        "torch_utils.persistence": ["_reconstruct_persistent_obj"], "posix_": ["system"],
    }
    for module, functions in names.items():
        made = sys.modules[module] = types.ModuleType(module)
        for function in functions:
            exec(f"def {function}(*_): pass", made.__dict__)
            getattr(made, function).__module__ = module
    torch = sys.modules["torch"]

    class Call:
        def __init__(self, module, name, *arguments):
            self.made = getattr(sys.modules[module], name), arguments

        def __reduce__(self):
            return self.made

    class Storage:
        def __init__(self, kind, key, numbers):
            self.name = ("storage", getattr(torch, kind), key, "cpu", numbers)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.name if isinstance(value, Storage) else None

    def pickled(value, protocol=2):
        out = io.BytesIO()
        Pickler(out, protocol).dump(value)
        return out.getvalue()

    def tensor(storage, offset, shape, stride):
        return Call("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, stride, False, {})

    def parameter(*of):
        return Call("torch._utils", "_rebuild_parameter", tensor(*of), True, {})

    def state():
        storage, halves = Storage("FloatStorage", "0", 6), Storage("HalfStorage", "1", 2)
        return {
            "conv.weight": tensor(storage, 0, (2, 3), (3, 1)), "turned": tensor(storage, 0, (3, 2), (1, 3)),
            "bias": parameter(halves, 0, (2,), (1,)), "scalar": tensor(storage, 5, (), ()),
        }

    floats = struct.pack("<6f", *range(6))
    halves = struct.pack("<2e", 0.5, -2)

    def archive(value, method=zipfile.ZIP_STORED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as made:
            files = {"data.pkl": pickled(value), "byteorder": b"little", "data/0": floats, "data/1": halves, "version": b"3\n"}
            for name, data in files.items():
                made.writestr(zipfile.ZipInfo(f"x/{name}"), data, method)
        return out.getvalue()

    def legacy(value, storages):
        head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
        data = b"".join(struct.pack("<Q", numbers) + data for _, numbers, data in storages)
        return b"".join(map(pickled, [*head, value, [key for key, _, _ in storages]])) + data

    both = [("0", 6, floats), ("1", 2, halves)]
    seed("torch", "archive.pt", archive({"model": state(), "step": 7, "lr": 1e-4}))
    seed("torch", "legacy.pt", legacy(state(), both))
    seed("torch", "packed.pt", archive(state(), zipfile.ZIP_DEFLATED))
    seed("torch", "cut.pt", archive(state())[:-30])
    seed("torch", "short.pt", legacy(state(), [("0", 6, floats), ("1", 2, halves[:3])]))

    def snapshot(kind, **attributes):
        return Call("torch_utils.persistence", "_reconstruct_persistent_obj", {
            "type": "class", "version": 6, "module_src": "", "class_name": kind, "state": attributes})

    def own(*shape):
        one = legacy(Storage("FloatStorage", "0", 6), [("0", 6, floats)])
        stride = (shape[1], 1) if len(shape) == 2 else (1,)
        storage = Call("torch.storage", "_load_from_bytes", one)
        return Call("torch._utils", "_rebuild_parameter", tensor(storage, 0, shape, stride), True, {})

    layer = snapshot("Linear", _parameters={"weight": own(2, 3), "bias": own(6)}, _buffers={}, _modules={})
    network = snapshot("SongUNet", _init_kwargs={"channel_mult": [1, 2]}, _parameters={}, _buffers={}, _modules={"map": layer})
    ema = snapshot("EDMPrecond", sigma_data=0.5, use_fp16=False, _parameters={}, _buffers={}, _modules={"model": network})
    seed("torch", "snapshot.pkl", pickled({"ema": ema, "loss_fn": None}, 4))
    attack = pickled({"w": Call("posix_", "system", "true")}).replace(b"posix_", b"posix")
    seed("torch", "attack.pkl", attack)


def logs():
    line = lambda step: json.dumps({"step": step, "loss": 0.5 / step, "lr": 1e-4, "skipped": None}) + "\n"
    seed("metrics", "three", "".join(line(step) for step in (1, 2, 3)))
    seed("metrics", "torn", line(1) + '{"step": 2, "lo')
    seed("metrics", "nonsense", line(1) + "nonsense\n" + line(3))
    seed("metrics", "deep", "[" * 1000 + "\n")
    seed("metrics", "empty", "\n\n")


if __name__ == "__main__":
    tensors()
    descriptions()
    configurations()
    arrays()
    pictures()
    manifests()
    torch_files()
    logs()
