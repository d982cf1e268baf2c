"""What a published folder says beside its weights, compared with what we do: its sampler and its preprocessing.

Weights load without it, and then give nonsense: a UNet that was trained to predict noise has the shapes of one that
predicts v, and images with another mean are images. A folder that says nothing is taken as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import EulerDiscreteScheduler
from huggingface_hub import hf_hub_download
from torch._subclasses.fake_tensor import unset_fake_temporarily

from vidpara.cli import UserError
from vidpara.config import DiffusionConfig
from vidpara.models.diffusion import scheduler
from vidpara.models.known_shapes import only_shapes

SCHEDULER = "scheduler/scheduler_config.json"
PREPROCESSING = "preprocessor_config.json"
TRAINED = {
    "prediction_type": "choose a UNet that predicts v, as SVD's does",
    "timestep_type": "choose a UNet that is told ln(sigma) / 4, as SVD's is",
}
"""Settings that the weights were trained with, and what to do about others."""
SAMPLED = ("sigma_max", "sigma_min", "use_karras_sigmas")
"""Settings of sampling alone."""


def check_scheduler(weights: str, config: DiffusionConfig) -> None:
    """Compare a pipeline's scheduler with our diffusion. What the file leaves out has diffusers' defaults.

    Raises:
        UserError: they differ.
    """
    if (found := _read(weights, SCHEDULER)) is not None:
        with unset_fake_temporarily():  # schedulers compute with numbers, which planned tensors do not have
            _compare(found, f"{weights}/{SCHEDULER}", config)


def _compare(found: dict[str, Any], place: str, config: DiffusionConfig) -> None:
    ours = scheduler(config).config
    if (name := found.get("_class_name", "EulerDiscreteScheduler")) != "EulerDiscreteScheduler":
        raise UserError(
            f"{place} is of {name}, vidpara has SVD's EulerDiscreteScheduler; choose a UNet that was published with it"
        )
    try:
        theirs = EulerDiscreteScheduler.from_config(found).config
    except (TypeError, ValueError) as error:
        raise UserError(f"{place} is no scheduler that diffusers can make: {error}; get it again") from error
    for key, remedy in TRAINED.items():
        if theirs[key] != ours[key]:
            raise UserError(f"{place} has {key} {theirs[key]}, vidpara has {ours[key]}; {remedy}")
    for key in SAMPLED:
        if not _same(theirs[key], ours[key]):
            configurable = key == "sigma_max" and theirs[key] is not None
            remedy = (
                f"set --diffusion.sigma_max {theirs[key]}"
                if configurable
                else f"if the UNet is meant to be sampled so, write {key} {json.dumps(ours[key])} into that file"
            )
            raise UserError(f"{place} has {key} {theirs[key]}, vidpara samples with {ours[key]}; {remedy}")


def check_preprocessing(
    weights: str, sub: str | None, mean: Sequence[float], std: Sequence[float], side: int | None = None
) -> None:
    """Compare an image encoder's preprocessing with ours: `mean` and `std` of images in [0, 1] and, if it takes one
    size only, the `side` of its images.

    A pipeline has it in `feature_extractor`, a model's own folder (`sub` is None) beside its configuration. How images
    are resized or cropped is not compared: SVD's pipeline resizes them itself, whatever the file says.

    Raises:
        UserError: they differ.
    """
    path = f"feature_extractor/{PREPROCESSING}" if sub else PREPROCESSING
    found = _read(weights, path) or {}
    expected = {
        "image_mean": list(mean),
        "image_std": list(std),
        "rescale_factor": 1 / 255,
        "do_normalize": True,
    }
    for key, ours in expected.items():
        if not _same(theirs := found.get(key, ours), ours):
            raise UserError(
                f"{weights}/{path} has {key} {theirs}, vidpara has {ours}; choose an image encoder that was trained "
                "with these images"
            )
    sides = _sides(found.get("crop_size" if found.get("do_center_crop", True) else "size"))
    if side and any(each != side for each in sides):
        raise UserError(
            f"{weights}/{path} makes images of {' x '.join(map(str, sides))} pixels, the image encoder's config.json "
            f"says {side}; take both from the same model"
        )


def _sides(size: Any) -> list[int]:
    """224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    return list(size.values()) if isinstance(size, dict) else [] if size is None else [size]


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(ours, list):
        return (
            isinstance(theirs, list)
            and len(theirs) == len(ours)
            and all(_same(*pair) for pair in zip(theirs, ours, strict=True))
        )
    if isinstance(ours, float):
        return isinstance(theirs, int | float) and math.isclose(theirs, ours, rel_tol=1e-4)
    return theirs == ours


def _read(weights: str, path: str) -> dict[str, Any] | None:
    """A file of a folder or hub id; None where there is none, no way to ask, or no weights will be loaded."""
    if only_shapes(weights):
        return None
    file = Path(weights, path)
    if not Path(weights).is_dir():
        try:
            file = Path(hf_hub_download(weights, path))
        except (
            OSError,
            ValueError,
        ):  # no such file, no such id, no connection: loading the weights says which
            return None
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{weights}/{path} is not valid JSON ({error}); get it again") from error
    if not isinstance(settings, dict):
        raise UserError(
            f"{weights}/{path} holds a {type(settings).__name__}, expected settings; get it again"
        )
    return settings
