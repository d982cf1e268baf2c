"""What lies at a path, as a digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from vidpara.config import DataConfig, TrainPolicyConfig, UNetConfig, ViTConfig
from vidpara.experiment import keys

THEN = 1_700_000_000
LARGE = keys.BLOCK * keys.BLOCKS


def digest(path: Path) -> str:
    """As another process finds it, which has read nothing yet."""
    keys._read.cache_clear()
    return keys.digest(path)


def write(file: Path, content: bytes) -> None:
    """Without a trace in the time of change."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (THEN, THEN))


def test_a_file_is_known_by_the_hash_of_its_content(tmp_path: Path):
    content = os.urandom(3 * LARGE)
    write(tmp_path / "rollouts.hdf5", content)
    assert digest(tmp_path / "rollouts.hdf5") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "size", "at"),
    [
        ("meta/info.json", 12, 9),
        ("data/file-000.parquet", LARGE, LARGE // 2 + 1),
        ("videos/file-000.mp4", 3 * LARGE + 5, 0),
        ("videos/file-000.mp4", 3 * LARGE + 5, 3 * LARGE + 4),
        ("videos/file-000.mp4", 3 * LARGE + 5, 7 * (3 * LARGE + 5 - keys.BLOCK) // (keys.BLOCKS - 1)),
        *(("demos.hdf5", 3 * LARGE, at) for at in range(1, 3 * LARGE, LARGE // 3)),
    ],
)
def test_an_edit_of_equal_length_changes_a_folder(tmp_path: Path, name: str, size: int, at: int):
    content = bytearray(size)
    write(tmp_path / name, content)
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    content[at] = 1
    write(tmp_path / name, content)
    assert digest(tmp_path) != before


def test_a_copy_of_a_folder_is_the_same_folder(tmp_path: Path):
    """On another machine: at another time, with other notes of its download."""
    for copy, time in (("one", 1_600_000_000), ("two", 1_700_000_000)):
        for name, content in (("meta/info.json", b"{}"), (".cache/info.json.metadata", copy.encode())):
            write(tmp_path / copy / name, content)
            os.utime(tmp_path / copy / name, (time, time))
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    (tmp_path / "two/meta/info.json").rename(tmp_path / "two/meta/other.json")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_a_folder_that_changes_while_it_is_known_is_read_again(tmp_path: Path):
    write(tmp_path / "info.json", b"10")
    before = keys.digest(tmp_path)
    (tmp_path / "info.json").write_bytes(b"20")
    assert keys.digest(tmp_path) != before


def key(config: TrainPolicyConfig) -> str:
    return keys.key("train_policy", config, [], keys.contents(config, collected=True))


def test_cameras_and_weights_count_by_what_they_are_and_not_by_where(tmp_path: Path):
    for place in ("here", "there"):
        write(tmp_path / place / "weights/config.json", b"{}")
        write(tmp_path / place / "cameras.yaml", b"front: {}")

    def at(place: str) -> str:
        data = DataConfig(cameras=tmp_path / place / "cameras.yaml")
        return key(TrainPolicyConfig(data=data, unet=UNetConfig(weights=str(tmp_path / place / "weights"))))

    assert at("here") == at("there") != at("nowhere")
    weights = str(tmp_path / "here/weights")
    assert key(TrainPolicyConfig(unet=UNetConfig(weights=weights))) != key(
        TrainPolicyConfig(vit=ViTConfig(weights=weights))
    )


def test_a_hub_id_counts_as_it_is_written():
    names = ("stabilityai/stable-video-diffusion-img2vid", "stabilityai/stable-video-diffusion-img2vid-xt")
    assert len({key(TrainPolicyConfig(unet=UNetConfig(weights=name))) for name in names}) == 2


POLICY = (
    "config.yaml", "head.safetensors", "workspace.json", "unet/config.json", "autoencoder/patch_pca.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json", "scheduler/scheduler_config.json",
)  # fmt: skip


def test_a_policy_is_what_loading_it_reads(tmp_path: Path):
    for name in POLICY:
        write(tmp_path / name, b"0")
    before = keys.digest_folder(tmp_path)
    beside = (
        "result.json", "result.training.json", "vis/notes.yaml", "wandb/run/files/config.yaml",
        "checkpoint-00000500/state.json", "checkpoint-00000500/model.safetensors",
    )  # fmt: skip
    for name in beside:
        write(tmp_path / name, b"0")
        assert keys.digest_folder(tmp_path) == before, name
    for name in POLICY:
        (tmp_path / name).write_bytes(b"1")
        assert keys.digest_folder(tmp_path) != before, name
        write(tmp_path / name, b"0")
