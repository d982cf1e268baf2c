"""Weights in the layouts of diffusers and transformers, from a folder or a hub id.

Both libraries fill a tensor that is missing with random numbers and say so in a log; here every tensor has to be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from torch._guards import detect_fake_mode

from vidpara.cli import UserError
from vidpara.config import UNetConfig, ViTConfig
from vidpara.models.known_shapes import known, only_shapes
from vidpara.models.weight_files import variant_of

UNUSED = {
    "CLIPVisionModelWithProjection": r"text_model\.|text_projection\.|logit_scale$|.*\.position_ids$",
}
"""Tensors that a good file may have beside the model's own: the other half of a whole CLIP, and positions 0, 1, 2, ...,
which old releases of transformers saved. Any other is a sign of another model, and refused."""
ALSO = {"CLIPVisionModelWithProjection": "clip"}
"""A whole CLIP has its vision model's configuration inside its own."""


def subfolder(weights: str, name: str) -> str | None:
    """A pipeline folder or hub id holds the model in a subfolder; a model's own folder or hub id holds it directly."""
    folder = Path(weights)
    if only_shapes(weights):
        return None
    if not folder.exists() and not _is_path(weights):
        return None if _holds_one_model(weights, name) else name
    if (folder / "config.json").is_file() or folder.is_file():
        return None
    loose = not (folder / name).is_dir() and any(folder.glob("*.safetensors"))  # its config.json is missing
    return None if loose else name


def pretrained(kind, weights: str, sub: str | None):
    """The model with its weights; where tensors are only planned (`vidpara.memory`), its shapes alone,
    of SVD and DINOv3 without asking the hub.

    Half-precision weights become float32. Nothing is unpickled.

    Raises:
        UserError: there is no such folder or id, it holds another model, or it is incomplete or damaged.
    """
    named = {"subfolder": sub} if sub else {}
    place = Path(weights, sub or "")
    local, planned = Path(weights).exists() or _is_path(weights), detect_fake_mode() is not None
    if only_shapes(weights) and (shapes := known(kind, weights)) is not None:
        return shapes
    try:
        variant = variant_of(place, _stem(kind), kind.__name__) if local and not planned else None
        if not local:
            _ask_hub(weights, sub)
        _check_config(kind, weights, named)
        if planned:
            return _shapes(kind, weights, named)
        return _load(kind, weights, named | ({"variant": variant} if variant else {}), local).float()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        where = place if local else f"{weights}, {sub}" if sub else weights
        reason = " ".join(str(error).split())[:600]
        raise UserError(f"cannot load {kind.__name__} from {where}: {reason}") from error


def _holds_one_model(weights: str, name: str) -> bool:
    """Whether a hub id is that of this model alone; whatever the hub says otherwise, `pretrained` tells."""
    try:
        hf_hub_download(weights, f"{name}/config.json")
    except LocalEntryNotFoundError:  # offline: what is in its cache?
        return isinstance(try_to_load_from_cache(weights, "config.json"), str)
    except EntryNotFoundError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _is_path(weights: str) -> bool:
    """Whether this can be no hub id, which is NAME or OWNER/NAME."""
    return weights.startswith(("/", ".", "~")) or weights.count("/") > 1


def _ask_hub(weights: str, sub: str | None) -> None:
    """Whether the hub gives this model: the libraries say of every refusal that a file is missing."""
    page, path = f"https://huggingface.co/{weights}", f"{sub}/config.json" if sub else "config.json"
    try:
        hf_hub_download(weights, path)
    except GatedRepoError as error:
        raise ValueError(
            f"it is given to those who accept its licence: do that at {page}, then `hf auth login` here"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            "there is no such folder here, and on the hub no such model that you may read; give a local folder, "
            f"or look at {page}, and if you need a token there, `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            "there is no such folder here, nor is it in the hub's local cache, and the hub cannot be reached; connect, "
            "or give a local folder"
        ) from error
    except EntryNotFoundError as error:
        raise ValueError(
            f"it has no {path}; give the id of a whole pipeline, or of this model alone"
        ) from error


def _is_diffusers(kind) -> bool:
    return hasattr(kind, "load_config")


def _stem(kind) -> str:
    return "diffusion_pytorch_model" if _is_diffusers(kind) else "model"


def _check_config(kind, weights: str, named: dict[str, str]) -> None:
    """The libraries only warn when config.json is another model's."""
    if _is_diffusers(kind):
        found, expected = kind.load_config(weights, **named).get("_class_name"), {kind.__name__}
    else:
        found = kind.config_class.get_config_dict(weights, **named)[0].get("model_type")
        expected = {kind.config_class.model_type, ALSO.get(kind.__name__)}
    if found not in expected | {None}:
        raise ValueError(
            f"its config.json is that of a {found}; choose the weights, or the kind of model, that goes with the other"
        )


def _shapes(kind, weights: str, named: dict[str, str]):
    if _is_diffusers(kind):
        return kind.from_config(kind.load_config(weights, **named))
    return kind(kind.config_class.from_pretrained(weights, **named))


def _load(kind, weights: str, options: dict[str, str], local: bool):
    """The model, from safetensors; from a hub id in half precision if that is all there is."""
    try:
        return _loaded(kind, weights, options)
    except OSError:
        if local:
            raise
        try:
            return _loaded(kind, weights, options | {"variant": "fp16"})
        except OSError:
            pass
        raise


def _loaded(kind, weights: str, options: dict[str, str]):
    asked: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, **options}
    try:
        model, found = kind.from_pretrained(weights, **asked, ignore_mismatched_sizes=False)
    except (ValueError, RuntimeError) as error:
        if shapes := _other_shapes(kind, weights, asked):
            raise ValueError(
                f"{shapes}: its config.json and its weights are of two models; take both from one"
            ) from error
        raise
    unused = re.compile(UNUSED.get(kind.__name__, r"(?!)"))
    problems = {
        "lacks": set(found["missing_keys"]),
        "has, beside its own,": {key for key in found["unexpected_keys"] if not unused.match(key)},
    }
    if any(problems.values()):
        told = " and ".join(f"{verb} {_some(keys)}" for verb, keys in problems.items() if keys)
        raise ValueError(f"it {told}; get config.json and weights of the same model, whole")
    return model


def _other_shapes(kind, weights: str, asked: dict[str, Any]) -> str:
    """Which tensors have another shape: the libraries tell it only while they replace them. That model is dropped."""
    slow = {"low_cpu_mem_usage": False} if _is_diffusers(kind) else {}
    try:
        _, found = kind.from_pretrained(weights, **asked, **slow, ignore_mismatched_sizes=True)
    except (OSError, ValueError, RuntimeError):
        return ""
    wrong = sorted((key, tuple(has), tuple(wants)) for key, has, wants in found["mismatched_keys"])
    return _some(f"{key} is {has}, expected {wants}" for key, has, wants in wrong) if wrong else ""


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_sizes(section: str, config: UNetConfig | ViTConfig, found: Mapping[str, Any]) -> None:
    """Sizes come with weights: those that are asked for as well must be the same.

    Raises:
        UserError: one is not. A size at its default counts as not asked for.
    """
    for name, value in found.items():
        asked = getattr(config, name)
        if asked not in (value, getattr(type(config)(), name)):
            raise UserError(
                f"{section}.{name} is {asked}, but the weights {config.weights} have {value}; sizes come with weights: "
                f"leave --{section}.{name} out, or choose other --{section}.weights"
            )
