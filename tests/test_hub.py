"""Uploading a run. The hub is replaced by a fake: tests have no network and no token."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vidpara import hub
from vidpara.cli import UserError, load
from vidpara.config import HubConfig, TrainPolicyConfig, TrainVideoConfig


class Hub:
    """The hub as `role` sees it: a repository of `me` can be made, `you` has one that everyone may read."""

    role, name = "write", "me"

    def __init__(self) -> None:
        self.uploads: list[dict[str, Any]] = []
        self.made: list[tuple[str, bool]] = []

    def whoami(self) -> dict[str, Any]:
        if not self.role:
            raise ValueError("Token is required, but no token found.\nYou need to log in.")
        return {"name": self.name, "auth": {"accessToken": {"role": self.role}}}

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        if repository == "them/robot":
            raise ValueError("403 Forbidden: you cannot create a model under the namespace them")
        self.made.append((repository, private))

    def repo_info(self, repository: str) -> SimpleNamespace:
        return SimpleNamespace(private=repository != "me/shown" and dict(self.made)[repository])

    def auth_check(self, repository: str, write: bool = False) -> None:
        if write and not repository.startswith("me/"):
            raise ValueError(f"403 Forbidden: no write access to {repository}")

    def upload_folder(self, **settings: object) -> None:
        self.uploads.append(settings)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Hub:
    one = Hub()
    monkeypatch.setattr(hub, "HfApi", lambda: one)
    return one


def test_a_run_is_pushed_without_checkpoints_and_a_refusal_keeps_it(fake: Hub, tmp_path: Path):
    assert hub.push(tmp_path, "me/robot", private=True).endswith("me/robot")
    assert fake.made == [("me/robot", True)]
    assert fake.uploads[0]["folder_path"] == tmp_path and "checkpoint-*" in fake.uploads[0]["ignore_patterns"]
    with pytest.raises(UserError, match=r"is complete, but the hub took no upload .* 403"):
        hub.push(tmp_path, "them/robot", private=True)


def test_nothing_is_uploaded_where_everybody_would_see_it_unless_that_is_asked_for(fake: Hub, tmp_path: Path):
    """The hub ignores `private` of a repository that is there."""
    with pytest.raises(UserError, match="everybody sees it"):
        hub.push(tmp_path, "me/shown", private=True)
    assert not fake.uploads
    assert hub.push(tmp_path, "me/shown", private=False) and fake.uploads


def test_the_repository_is_made_before_the_training(fake: Hub):
    hub.prepare_push(HubConfig())
    assert not fake.made
    hub.prepare_push(HubConfig("me/robot", private=False))
    assert fake.made == [("me/robot", False)] and not fake.uploads


@pytest.mark.parametrize(
    ("repository", "role", "message"),
    [
        ("robot", "write", r"--hub\.push robot is no OWNER/NAME; give one such as"),
        ("me/robot/one", "write", "is no OWNER/NAME"),
        ("me/a robot", "write", "is no OWNER/NAME"),
        ("me/robot", "", "no upload to 'me/robot': Token is required.*; log in by `hf auth login`"),
        ("me/robot", "read", "the token may only read; log in"),
        ("them/robot", "write", "403 Forbidden: you cannot create .* may write for them"),
        ("you/robot", "write", "403 Forbidden: no write access to you/robot"),
        ("me/shown", "write", "me/shown is there already and everybody sees it, and --hub.private is True"),
    ],
)
def test_an_upload_that_would_fail_is_refused_before_the_training(
    repository: str, role: str, message: str, fake: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Hub, "role", role)
    with pytest.raises(UserError, match=message):
        hub.prepare_push(HubConfig(repository))


@pytest.mark.parametrize(
    ("name", "schema"), [("train_video", TrainVideoConfig), ("train_policy", TrainPolicyConfig)]
)
def test_stages_ask_before_they_read_any_data(name: str, schema: type, fake: Hub, tmp_path: Path):
    argv = ["--run", str(tmp_path / "run"), "--data.rollouts", str(tmp_path / "absent.hdf5")]
    run = runpy.run_path(str(Path(__file__).parents[1] / "stages" / f"{name}.py"))["run"]
    for repository, message in (
        ("them/robot", "the hub would take no upload"),
        ("me/robot", r"absent\.hdf5"),
    ):
        with pytest.raises(UserError, match=message):
            run(load(schema, [*argv, "--hub.push", repository]), argv)
