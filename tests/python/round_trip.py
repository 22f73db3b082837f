"""Draws with exported pipelines in Python's diffusers, and compares with what `ddpm sample` drew.

    round_trip.py NAME...

For each NAME there are NAME/ (the pipeline), NAME.safetensors (`start` [images, channels, height, width] and `noise`
[steps, images, channels, height, width], unit normal) and NAME-pictures/00000.png to 00003.png. The program that is run
is the one of the pipeline's card, with this noise in place of its own. Prints one JSON object a line: the name, the
classes of pipeline and scheduler, and the largest difference in grey levels.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.ddim import pipeline_ddim
from diffusers.pipelines.ddpm import pipeline_ddpm
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from PIL import Image
from safetensors.torch import load_file


def program(model):
    card = (model / "README.md").read_text()
    return re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)


def draw(model, noise):
    """Runs the card's program; returns its images and its pipeline."""
    start = iter([noise["start"]])
    steps = iter(noise["noise"])
    randn = torch.randn

    def first(shape, **_):
        found = next(start)
        assert tuple(shape) == tuple(found.shape), (shape, found.shape)
        return found

    def later(shape, **_):
        found = next(steps)
        assert tuple(shape) == tuple(found.shape), (shape, found.shape)
        return found

    # The pipelines' own start, that of a loop by hand, and the steps' noise.
    pipeline_ddpm.randn_tensor = pipeline_ddim.randn_tensor = first
    scheduling_ddpm.randn_tensor = scheduling_ddim.randn_tensor = later
    torch.randn = lambda *shape: first(shape)
    names = {}
    try:
        exec(program(model), names)
    finally:
        torch.randn = randn
    assert next(start, None) is None, "the program began with noise of its own"
    return names["images"], names["pipeline"]


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        images, pipeline = draw(Path(name), load_file(f"{name}.safetensors"))
        largest = 0
        for index, image in enumerate(images):
            expected = np.asarray(Image.open(f"{name}-pictures/{index:05}.png")).astype(int)
            found = np.asarray(image).astype(int)
            assert found.shape == expected.shape, (found.shape, expected.shape)
            largest = max(largest, int(np.abs(found - expected).max()))
        said = {
            "name": name,
            "images": len(images),
            "pipeline": type(pipeline).__name__,
            "scheduler": type(pipeline.scheduler).__name__,
            "largest": largest,
        }
        print(json.dumps(said), flush=True)


main()
