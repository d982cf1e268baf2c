"""Every test runs with the shapes in vidpara's signatures checked, on few threads, and without a network."""

from __future__ import annotations

import os

from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

# Before anything imports vidpara: the hook instruments modules as they are loaded.
install_import_hook("vidpara", "typechecking.check")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

hypothesis.settings.register_profile("vidpara", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("vidpara")


@pytest.fixture(autouse=True)
def deterministic() -> None:
    torch.manual_seed(0)


def pytest_configure() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Accelerate keeps the first precision that a process asks for; runs of other tests may have asked for another."""
    AcceleratorState._reset_state()
