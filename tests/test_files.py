"""Files and folders appear whole or not at all."""

from pathlib import Path

import pytest

from vidpara import files
from vidpara.files import beside, write_atomically


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "a.json"
    write_atomically(target, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def fill(folder: Path, names: str) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)


def test_a_folder_takes_the_place_of_an_older_one_and_of_what_a_kill_left(tmp_path: Path):
    fill(tmp_path / "unet", "ab")
    fill(tmp_path / "unet.part", "xyz")
    with beside(tmp_path / "unet") as part:
        fill(part, "bc")
    assert sorted(path.name for path in (tmp_path / "unet").iterdir()) == ["b", "c"]
    assert list(tmp_path.iterdir()) == [tmp_path / "unet"]


def test_a_link_to_a_folder_is_replaced_and_what_it_pointed_to_stays(tmp_path: Path):
    fill(tmp_path / "elsewhere", "ab")
    (tmp_path / "unet").symlink_to(tmp_path / "elsewhere")
    with beside(tmp_path / "unet") as part:
        fill(part, "c")
    assert [path.name for path in (tmp_path / "unet").iterdir()] == ["c"]
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2 and not (tmp_path / "unet").is_symlink()


def test_an_interrupt_leaves_the_old_folder(tmp_path: Path):
    fill(tmp_path / "unet", "ab")
    with pytest.raises(KeyboardInterrupt), beside(tmp_path / "unet") as part:
        fill(part, "c")
        raise KeyboardInterrupt
    assert sorted(path.name for path in (tmp_path / "unet").iterdir()) == ["a", "b"]
    assert list(tmp_path.iterdir()) == [tmp_path / "unet"]
