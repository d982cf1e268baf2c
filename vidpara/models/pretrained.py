"""Weights in the layouts of diffusers and transformers, from a folder or a hub id."""

from __future__ import annotations

from pathlib import Path

from torch._guards import detect_fake_mode

from vidpara.cli import UserError


def subfolder(weights: str, name: str) -> str | None:
    """A pipeline folder or hub id holds the model in a subfolder; a model folder holds it directly."""
    return name if not (Path(weights) / "config.json").is_file() else None


def pretrained(kind, weights: str, sub: str | None):
    """The model with its weights; where tensors are only planned (`vidpara.memory`), its shapes alone.

    Raises:
        UserError: there is no such folder or id, or it holds something else.
    """
    named = {"subfolder": sub} if sub else {}
    try:
        if detect_fake_mode() is not None:
            return _shapes(kind, weights, named)
        return kind.from_pretrained(weights, **named).float()
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load {kind.__name__} from {weights}: {' '.join(str(error).split())[:300]}"
        ) from error


def _shapes(kind, weights: str, named: dict[str, str]):
    if hasattr(kind, "load_config"):  # diffusers
        return kind.from_config(kind.load_config(weights, **named))
    return kind(kind.config_class.from_pretrained(weights, **named))  # transformers
