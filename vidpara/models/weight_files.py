"""The files of a model in diffusers' or transformers' layout: which to read, and what is wrong with them.

Everything here raises ValueError with the end of a sentence; `vidpara.models.pretrained` says which model and where.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from vidpara.cli import UserError
from vidpara.types import Tensor

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
NAMES = {
    None: ("{}.safetensors", "{}.safetensors.index.json"),
    "fp16": ("{}.fp16.safetensors", "{}.safetensors.index.fp16.json", "{}.fp16.safetensors.index.json"),
}
"""How a model's one file, or the index of its parts, is called, by variant."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of our own.

    Raises:
        UserError: it is incomplete.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or incomplete ({error}); {_again(path)}") from error


def variant_of(folder: Path, stem: str, kind: str) -> str | None:
    """`fp16` where a local folder has nothing else. `stem` is how the library calls its weights, `kind` the class.

    Raises:
        ValueError: the folder is incomplete, or its weights are not safetensors.
    """
    if folder.is_file():
        raise ValueError(
            f"this is a file; give the folder that has it, with config.json and {stem}.safetensors"
        )
    if not folder.is_dir():
        raise ValueError("there is no such folder; give a whole pipeline's, or that of this model alone")
    if not (folder / "config.json").is_file():
        raise ValueError(
            "config.json is missing, so the shapes are not known; get it from where the weights are from"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for variant, patterns in NAMES.items():
        if found := [name for name in (pattern.format(stem) for pattern in patterns) if name in names]:
            for part in _parts(folder / found[0]):
                _check_whole(part)
            return variant
    weights = [name for name in names if name.endswith((".safetensors", *PICKLED))]
    if weights and all(name.endswith(PICKLED) for name in weights):
        raise ValueError(
            f"{', '.join(weights[:3])} would have to be unpickled, which can run any code; get {stem}.safetensors "
            f"of the same model, or convert what you trust: {conversion(kind, stem, folder)}"
        )
    holds = f"it has {', '.join(weights[:3])}" if weights else "it has no weights"
    raise ValueError(f"{holds}, expected {stem}.safetensors; get that file of the same model in this layout")


def conversion(kind: str, stem: str, folder: Path) -> str:
    """A command that writes safetensors beside pickled weights."""
    library = "diffusers" if stem.startswith("diffusion") else "transformers"
    load = f"from {library} import {kind} as M; M.from_pretrained('{folder}', use_safetensors=False)"
    return f"python -c \"{load}.save_pretrained('{folder}')\""


def _parts(path: Path) -> list[Path]:
    if path.suffix != ".json":
        return [path]
    try:
        return sorted({path.parent / name for name in json.loads(path.read_text())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path.name} is damaged ({error}); {_again(path)}") from error


def _check_whole(path: Path) -> None:
    """Reads the header alone."""
    if not path.is_file():
        raise ValueError(
            f"{path.name} is missing, which the index names; get it from where the others are from"
        )
    try:
        with safe_open(path, "pt"):
            pass
    except SafetensorError as error:
        size = path.stat().st_size
        pointer = size < 1024 and path.read_bytes().startswith(b"version https://git-lfs")
        what = "is a Git LFS pointer, not the weights" if pointer else f"is damaged or incomplete ({error})"
        raise ValueError(f"{path.name} ({size:,} bytes) {what}; {_again(path)}") from error


def _again(path: Path) -> str:
    return f"get {path.name} again"
