"""Every kind of published model, damaged in every way that a folder comes: named in one line, never filled in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    DINOv3ViTModel,
)

from vidpara.cli import UserError
from vidpara.config import UNetConfig, ViTConfig
from vidpara.models.dinov3 import random_vit
from vidpara.models.pretrained import pretrained, subfolder
from vidpara.models.svd import random_unet
from vidpara.models.weight_files import conversion
from vidpara.types import Tensor

ROOT = Path(__file__).parents[2]
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 16,
    "patch_size": 8, "image_size": 16,
}  # fmt: skip
MAKE: dict[str, Callable] = {
    "unet": lambda: random_unet(UNetConfig(channels=(32, 64), attention=(False, True), context_dim=16), 4, 7),
    "vae": lambda: AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    ),
    "image_encoder": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
    "vit": lambda: random_vit(ViTConfig(patch=8, width=32, layers=2, heads=2, registers=2)),
}
CLASS = {
    "unet": UNetSpatioTemporalConditionModel,
    "vae": AutoencoderKLTemporalDecoder,
    "image_encoder": CLIPVisionModelWithProjection,
    "vit": DINOv3ViTModel,
}
FEW = {
    "unet": "conv_in.bias",
    "vae": "decoder.conv_in.bias",
    "image_encoder": "visual_projection.weight",
    "vit": "embeddings.cls_token",
}
"""A tensor of each."""


@pytest.fixture(scope="module")
def models() -> dict:
    torch.manual_seed(0)
    return {name: make() for name, make in MAKE.items()}


def weights_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = weights_of(folder)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def missing(folder: Path, key: str) -> None:
    edit(folder, lambda tensors: tensors.pop(key))


def unexpected(folder: Path, key: str) -> None:
    edit(folder, lambda tensors: tensors.update({"adapter.weight": torch.zeros(3)}))


def wrong_shape(folder: Path, key: str) -> None:
    edit(folder, lambda tensors: tensors.update({key: torch.cat([tensors[key], tensors[key]])}))


def no_config(folder: Path, key: str) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path, key: str) -> None:
    (folder / "config.json").write_text("{")


def config_of_another(folder: Path, key: str) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"_class_name": "UNet2DConditionModel", "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(settings))


def truncated(folder: Path, key: str) -> None:
    whole = weights_of(folder).read_bytes()
    weights_of(folder).write_bytes(whole[: len(whole) // 2])


def lfs_pointer(folder: Path, key: str) -> None:
    weights_of(folder).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def only_pickled(folder: Path, key: str) -> None:
    tensors = load_file(weights_of(folder))
    weights_of(folder).unlink()
    name = (
        "diffusion_pytorch_model.bin"
        if "_class_name" in (folder / "config.json").read_text()
        else "pytorch_model.bin"
    )
    torch.save(tensors, folder / name)


def no_weights(folder: Path, key: str) -> None:
    weights_of(folder).unlink()


def another_layout(folder: Path, key: str) -> None:
    weights_of(folder).rename(folder / "svd_xt.safetensors")


DAMAGES: list[tuple[Callable[[Path, str], None], str]] = [
    (missing, "it lacks KEY; get config.json and weights of the same model, whole"),
    (unexpected, r"it has, beside its own, adapter\.weight; get config\.json"),
    (wrong_shape, r"KEY is \(\d.*\), expected \(\d.*\): its config\.json and its weights are of two models"),
    (no_config, r"config\.json is missing, so the shapes are not known; get it"),
    (broken_config, r"not a valid JSON file"),
    (config_of_another, r"its config\.json is that of a (UNet2DConditionModel|bert); choose"),
    (truncated, r"model\.safetensors \([\d,]+ bytes\) is damaged or incomplete .*get \w+\.safetensors again"),
    (lfs_pointer, r"model\.safetensors \(\d+ bytes\) is a Git LFS pointer, not the weights; get"),
    (
        only_pickled,
        r"model\.bin would have to be unpickled.*get \w+\.safetensors of the same model, or convert",
    ),
    (no_weights, r"it has no weights, expected \w+\.safetensors"),
    (another_layout, r"it has svd_xt\.safetensors, expected (diffusion_pytorch_)?model\.safetensors"),
]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_a_damaged_folder_is_named_and_never_filled_in(name, damage, message, models, tmp_path):
    folder = tmp_path / name
    models[name].save_pretrained(folder)
    pretrained(CLASS[name], str(tmp_path), name)  # whole, it loads
    damage(folder, FEW[name])
    words = message.replace("KEY", FEW[name].replace(".", r"\."))
    with pytest.raises(
        UserError, match=rf"cannot load {CLASS[name].__name__} from {folder}: .*{words}"
    ) as found:
        pretrained(CLASS[name], str(tmp_path), subfolder(str(tmp_path), name))
    assert "\n" not in str(found.value)
    if (
        damage is not only_pickled
    ):  # a folder of the model alone; a pickle's message has a command with its path
        with pytest.raises(UserError, match=words):
            pretrained(CLASS[name], str(folder), subfolder(str(folder), name))


@pytest.mark.parametrize("name", MAKE)
def test_a_folder_with_nothing_but_half_precision_loads_in_float32(name, models, tmp_path):
    models[name].save_pretrained(tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({key: value.half() for key, value in tensors.items()}))
    whole = weights_of(tmp_path)
    whole.rename(whole.with_suffix(".fp16.safetensors"))
    loaded = pretrained(CLASS[name], str(tmp_path), None).state_dict()
    for key, value in models[name].state_dict().items():
        assert loaded[key].dtype == torch.float32
        torch.testing.assert_close(loaded[key], value.half().float())


def test_whole_precision_is_preferred(models, tmp_path):
    models["unet"].save_pretrained(tmp_path, variant="fp16")
    edit(tmp_path, lambda tensors: [value.zero_() for value in tensors.values()])
    models["unet"].save_pretrained(tmp_path)
    loaded = pretrained(CLASS["unet"], str(tmp_path), None).state_dict()
    torch.testing.assert_close(loaded, dict(models["unet"].state_dict()))


@pytest.mark.parametrize("name", ["unet", "image_encoder"])
def test_a_part_that_the_index_names_must_be_there(name, models, tmp_path):
    models[name].save_pretrained(tmp_path, max_shard_size="10KB")
    key = FEW[name]
    torch.testing.assert_close(
        pretrained(CLASS[name], str(tmp_path), None).state_dict()[key], models[name].state_dict()[key]
    )
    part = sorted(tmp_path.glob("*-00002-of-*.safetensors"))[0]
    part.unlink()
    with pytest.raises(UserError, match=rf"{part.name} is missing, which the index names"):
        pretrained(CLASS[name], str(tmp_path), None)


@pytest.mark.parametrize("name", MAKE)
def test_the_conversion_that_the_message_gives_works(name, models, tmp_path):
    models[name].save_pretrained(tmp_path)
    only_pickled(tmp_path, FEW[name])
    with pytest.raises(UserError) as found:
        pretrained(CLASS[name], str(tmp_path), None)
    stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
    command = conversion(CLASS[name].__name__, stem, tmp_path)
    assert command in str(found.value)
    exec(command.removeprefix('python -c "').removesuffix('"'), {})
    loaded = pretrained(CLASS[name], str(tmp_path), None).state_dict()
    torch.testing.assert_close(loaded, dict(models[name].state_dict()))


def test_a_whole_clip_and_old_position_ids_are_as_good_as_its_vision_model(models, tmp_path):
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    whole.save_pretrained(tmp_path)
    positions = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    edit(tmp_path, lambda tensors: tensors.update(positions))
    loaded = pretrained(CLIPVisionModelWithProjection, str(tmp_path), None)
    images = torch.rand(1, 3, 16, 16)
    expected = whole.visual_projection(whole.vision_model(images).pooler_output)
    torch.testing.assert_close(loaded(images).image_embeds, expected)


def test_a_clip_without_its_projection_is_refused(tmp_path):
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"it lacks visual_projection\.weight"):
        pretrained(CLIPVisionModelWithProjection, str(tmp_path), None)


def test_a_folder_that_is_none_or_lacks_the_model_is_named(models, tmp_path):
    models["vae"].save_pretrained(tmp_path / "vae")
    for weights in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(
            UserError, match=r"from .*/unet: there is no such folder; give a whole pipeline's"
        ):
            pretrained(CLASS["unet"], str(weights), subfolder(str(weights), "unet"))
    file = weights_of(tmp_path / "vae")
    with pytest.raises(UserError, match="this is a file; give the folder that has it"):
        pretrained(CLASS["vae"], str(file), subfolder(str(file), "vae"))


RESPONSE: Any = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (GatedRepoError("403", response=RESPONSE), r"accept its licence: do that at \S+/me/svd, then `hf auth login`"),
        (RepositoryNotFoundError("401", response=RESPONSE), "on the hub no such model that you may read; give a local"),
        (LocalEntryNotFoundError("no connection"), "the hub cannot be reached; connect, or give a local folder"),
        (RemoteEntryNotFoundError("404", response=RESPONSE), r"it has no unet/config\.json; give the id of a whole"),
    ],
)  # fmt: skip
def test_why_the_hub_gives_no_weights_is_said(refusal, message, monkeypatch):
    def refuse(*_asked):
        raise refusal

    monkeypatch.setattr("vidpara.models.pretrained.hf_hub_download", refuse)
    with pytest.raises(UserError, match=f"from me/svd, unet: .*{message}"):
        pretrained(CLASS["unet"], "me/svd", "unet")


@pytest.mark.parametrize(
    ("refusal", "cached", "expected"),
    [
        (None, None, "unet"),
        (RemoteEntryNotFoundError("404", response=RESPONSE), None, None),
        (LocalEntryNotFoundError("no connection"), "config.json", None),
        (LocalEntryNotFoundError("no connection"), None, "unet"),
        (RepositoryNotFoundError("401", response=RESPONSE), None, "unet"),
    ],
    ids=["pipeline", "one model", "one model, offline", "nothing, offline", "no such id"],
)
def test_a_hub_id_is_that_of_a_pipeline_or_of_one_model(refusal, cached, expected, monkeypatch):
    """The hub is a fake: tests have no network."""

    def answer(*_asked):
        if refusal:
            raise refusal

    monkeypatch.setattr("vidpara.models.pretrained.hf_hub_download", answer)
    monkeypatch.setattr("vidpara.models.pretrained.try_to_load_from_cache", lambda *_asked: cached)
    assert subfolder("me/unet", "unet") == expected


@pytest.mark.slow
def test_a_hub_id_with_nothing_but_half_precision_loads_too(models, tmp_path):
    """From the hub's local cache, which is read when the libraries are imported: hence a process of its own."""
    commit = "0123456789abcdef" * 2 + "01234567"
    snapshot = tmp_path / "models--me--svd/snapshots" / commit
    for name in ("unet", "image_encoder"):
        models[name].save_pretrained(snapshot / name, variant="fp16")
    (tmp_path / "models--me--svd/refs").mkdir()
    (tmp_path / "models--me--svd/refs/main").write_text(commit)
    code = (
        "from tests.models.test_pretrained import CLASS, pretrained\n"
        "for name in ('unet', 'image_encoder'): print(pretrained(CLASS[name], 'me/svd', name).dtype)\n"
        "try: pretrained(CLASS['vae'], 'me/svd', 'vae')\n"
        "except Exception as error: print(type(error).__name__, str(error))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = run.stdout.splitlines()
    assert said[:2] == ["torch.float32"] * 2, run.stderr
    assert said[2].startswith("UserError cannot load AutoencoderKLTemporalDecoder from me/svd, vae: ")
    assert said[2].endswith("the hub cannot be reached; connect, or give a local folder")
