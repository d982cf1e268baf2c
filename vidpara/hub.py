"""A finished run to the Hugging Face hub: asked before the training, uploaded after it."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import HFValidationError, validate_repo_id

from vidpara.cli import UserError
from vidpara.config import HubConfig
from vidpara.training.processes import first_only


def prepare_push(config: HubConfig) -> None:
    """Before a training whose result is to be uploaded: is there a token, and may it write to that repository?

    Every process calls this; the first one asks. The repository is made now, empty.

    Raises:
        UserError: the upload would fail. Every process raises it.
    """
    if config.push:
        first_only(partial(_prepare, config.push, config.private))


def push(run: Path, repository: str, private: bool) -> str:
    """Upload a finished run, without checkpoints and logs, and return its address.

    Raises:
        UserError: the hub refuses: no token, no such owner, or no connection.
    """
    hub = HfApi()
    try:
        _make(repository, private)
        hub.upload_folder(
            repo_id=repository, folder_path=run, ignore_patterns=["checkpoint-*", "wandb/*", "vis/*"]
        )
    except UserError:
        raise
    except Exception as error:  # also the transport's own; whatever it is, the run is complete
        raise UserError(
            f"{run} is complete, but the hub took no upload to '{repository}': {_short(error)}; log in with "
            "`hf auth login`, then give the same command again"
        ) from error
    return f"https://huggingface.co/{repository}"


def _prepare(repository: str, private: bool) -> None:
    try:
        validate_repo_id(repository)
        owner, _ = repository.split("/")
    except (HFValidationError, ValueError) as error:
        raise UserError(
            f"--hub.push {repository} is no OWNER/NAME; give one such as --hub.push me/robot-policy"
        ) from error
    hub = HfApi()
    try:
        token = hub.whoami().get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            raise PermissionError("the token may only read")
        _make(repository, private)
        # That passes where the repository exists and is another's.
        if "write" in inspect.signature(hub.auth_check).parameters:  # not in old releases
            hub.auth_check(repository, write=True)
    except UserError:
        raise
    except Exception as error:  # also the transport's own
        raise UserError(
            f"nothing was trained, because the hub would take no upload to '{repository}': {_short(error)}; log in "
            f"by `hf auth login` with a token that may write for {owner}, or give --hub.push after the training only"
        ) from error


def _make(repository: str, private: bool) -> None:
    """The repository, if it is not there; the hub leaves one that is as it is.

    Raises:
        UserError: everybody sees it, and that was not asked for.
    """
    hub = HfApi()
    hub.create_repo(repository, private=private, exist_ok=True)
    if private and not hub.repo_info(repository).private:
        raise UserError(
            f"--hub.push {repository} is there already and everybody sees it, and --hub.private is True: make it "
            "private on its page, give another name, or upload in public with --hub.private False"
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
