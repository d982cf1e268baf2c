"""What a result was made with is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vidpara import versions


def test_versions_name_what_can_change_a_result():
    found = versions.versions()
    assert {"python", "torch", "diffusers", "mujoco", "robosuite", "vidpara", "commit"} <= found.keys()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_a_cpu_is_named_by_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(versions, "CPU_NAMES", tmp_path / "cpuinfo")
    assert versions.processor(torch.device("cpu"))  # elsewhere than on Linux the architecture
    versions.CPU_NAMES.write_text("processor : 0\nmodel name : Fast One\nmodel name : Fast One\n")
    assert versions.processor(torch.device("cpu")) == "Fast One"
