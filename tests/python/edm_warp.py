"""Makes crates/ddpm-data/tests/fixtures/edm_warp.json: images warped by EDM's augmentation, in f64 by dense matrices.

    edm_warp.py > crates/ddpm-data/tests/fixtures/edm_warp.json

Written from the description (Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B;
Karras et al. 2022, appendix F.2) and not from the program: enlarging and making smaller are products with matrices of the
filter's taps. Each case has what was drawn, the image and the result, [channels, height, width].
"""

import json
import sys
from math import ceil, cos, pi, sin

import numpy as np

SYM6 = np.array([
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
])  # fmt: skip


def affine(a=1.0, b=0.0, x=0.0, c=0.0, d=1.0, y=0.0):
    return np.array([[a, b, x], [c, d, y], [0, 0, 1]])


def rotation(angle):
    return affine(cos(angle), -sin(angle), 0, sin(angle), cos(angle), 0)


def inverse_map(drawn, height, width):
    """Where a place of the result is read, about the centre: the inverse of shift, uneven scale, rotation, scale."""
    isotropic = affine(a=2 ** (0.2 * drawn["scale"]), d=2 ** (0.2 * drawn["scale"]))
    stretch = affine(a=2 ** (0.2 * drawn["aniso"]), d=2 ** (-0.2 * drawn["aniso"]))
    axis = rotation(drawn["aniso_angle"])
    tx, ty = drawn["translate"]
    shift = affine(x=0.125 * width * tx, y=0.125 * height * ty)
    forward = shift @ np.linalg.inv(axis) @ stretch @ axis @ rotation(-drawn["rotate"]) @ isotropic
    return np.linalg.inv(forward)


def enlarging(n):
    """[2n, n]: zeros between the samples, then convolution with the filter."""
    up = np.zeros([2 * n, n])
    for out in range(2 * n):
        for tap in range(12):
            twice = out - tap + 5
            if twice % 2 == 0 and 0 <= twice // 2 < n:
                up[out, twice // 2] = SYM6[tap]
    return up


def shrinking(n):
    """[n, 2(n + 6)]: correlation with the filter at every second sample, without three samples on either side."""
    down = np.zeros([n, 2 * (n + 6)])
    for out in range(n):
        down[out, 2 * out + 1 : 2 * out + 13] = SYM6
    return down


def hat(places, n):
    """[len(places), n]: linear interpolation, 0 beyond."""
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(n)[None]))


def warp(image, inverse):
    _, height, width = image.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    corners = np.array([[sx * centre[0], sy * centre[1], 1] for sx in (-1, 1) for sy in (-1, 1)]) @ inverse.T
    before = np.clip(np.max(-corners[:, :2], 0) + 6 - centre, 0, 2 * centre)
    after = np.clip(np.max(corners[:, :2], 0) + 6 - centre, 0, 2 * centre)
    (left, top), (right, bottom) = [[ceil(x) for x in xs] for xs in (before, after)]
    padded = np.pad(image, [(0, 0), (top, bottom), (left, right)], mode="reflect")
    up_rows, up_columns = enlarging(padded.shape[1]), enlarging(padded.shape[2])
    large = up_rows @ padded @ up_columns.T
    # Sample i of an enlarged image lies at i/2; the result's first lies three pixels before the image's first.
    rows = np.arange(2 * (height + 6)) / 2 - 3 - centre[1]
    columns = np.arange(2 * (width + 6)) / 2 - 3 - centre[0]
    y, x = np.meshgrid(rows, columns, indexing="ij")
    read_x, read_y, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
    places_x = 2 * (read_x + centre[0] + left)
    places_y = 2 * (read_y + centre[1] + top)
    taps_x = hat(places_x.ravel(), large.shape[2])
    taps_y = hat(places_y.ravel(), large.shape[1])
    read = np.einsum("ph,chw,pw->cp", taps_y, large, taps_x, optimize=True)
    read = read.reshape(-1, *x.shape)
    return shrinking(height) @ read @ shrinking(width).T


STILL = {"scale": 0.0, "rotate": 0.0, "aniso": 0.0, "aniso_angle": 0.0, "translate": [0.0, 0.0]}
CASES = [
    ([1, 16, 16], {}),
    ([1, 16, 16], {"scale": 1.3}),
    ([1, 16, 16], {"scale": -2.1}),
    ([1, 16, 16], {"rotate": 0.6}),
    ([1, 16, 16], {"rotate": -2.9}),
    ([1, 16, 16], {"aniso": 1.1}),
    ([1, 16, 16], {"aniso": -0.9, "aniso_angle": 2.2}),
    ([1, 16, 16], {"translate": [0.7, -1.9]}),
    ([3, 9, 12], {"scale": 0.4, "rotate": 1.1, "aniso": 0.5, "aniso_angle": -0.8, "translate": [-0.3, 0.6]}),
    ([2, 5, 4], {"scale": -1.5, "rotate": pi / 2, "translate": [3.5, -4.0]}),
]


def cases():
    rng = np.random.default_rng(5)
    for shape, drawn in CASES:
        drawn = STILL | drawn
        image = np.round(rng.uniform(-1, 1, shape), 2)
        yield shape, drawn, image, warp(image, inverse_map(drawn, *shape[1:]))


def main():
    rows = []
    for shape, drawn, image, warped in cases():
        flat = {"shape": shape, "drawn": drawn, "image": image.ravel().tolist()}
        rows.append(json.dumps(flat | {"warped": np.round(warped, 5).ravel().tolist()}))
    sys.stdout.write("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
