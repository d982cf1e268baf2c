"""Reading rollouts: the layout that stages/collect_rollouts.py writes, and files broken on purpose.

The files here hold noise for images and a straight line for a path: what is tested is reading and refusing, and the
real simulator's files go through the same code in tests/test_pipeline.py.
"""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from tests.data.rollout_files import FRAMES, SIZE, write
from vidpara.build import shaped_autoencoder
from vidpara.build_data import content_of
from vidpara.build_policy import build_policy
from vidpara.cli import UserError
from vidpara.config import ClipConfig, DataConfig, LossConfig, TrainPolicyConfig
from vidpara.data import cache_notes as notes
from vidpara.data import cached_frames, latents
from vidpara.data.cached_frames import CachedFrames, seen_by_now
from vidpara.data.clips import Clips, first_frames
from vidpara.data.episode import Episode, at_rate
from vidpara.data.latents import cache_frames, to_float
from vidpara.data.rollouts import read_episodes
from vidpara.data.shards import cache_source
from vidpara.data.split import corners_first, split, workspace
from vidpara.data.team import Alone
from vidpara.models.image_encoder import ZeroContext


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "rollouts.hdf5")


def edit(path: Path, name: str, value) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = value


def test_images_are_upright_and_not_mirrored(path):
    with h5py.File(path) as file:
        raw = file["data/demo_1/obs/agentview_rgb"][:]
    images = read_episodes(path)[1].images()
    assert np.array_equal(images[:, 0], raw[:, -1]) and np.array_equal(images[:, -1], raw[:, 0])


def test_pixels_follow_the_camera_and_the_gripper_the_action_of_the_same_row(path):
    episode = read_episodes(path)[0]
    torch.testing.assert_close(episode.pixel[0], torch.tensor([16 - 0.3 * 40, 16.0]))
    assert episode.gripper.tolist() == [0.0] * 12 + [1.0] * 12
    torch.testing.assert_close(episode.opening, torch.full((FRAMES,), 0.04))


def test_resized_images_take_camera_and_pixels_along(path):
    stored, resized = read_episodes(path)[0], read_episodes(path, size=(48, 80))[0]
    assert resized.images().shape == (FRAMES, 48, 80, 3)
    assert (resized.image_size, resized.stored_size) == ((48, 80), (SIZE, SIZE))
    torch.testing.assert_close(resized.pixel, stored.pixel * torch.tensor([80 / SIZE, 48 / SIZE]))
    assert torch.equal(resized.in_view, stored.in_view)
    assert resized.images().mean() == pytest.approx(stored.images().mean(), rel=0.01)


def test_demos_come_in_the_order_of_their_numbers(tmp_path):
    assert [e.name for e in read_episodes(write(tmp_path / "many.hdf5", demos=11))][-2:] == [
        "demo_9",
        "demo_10",
    ]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.hdf5 does not exist; give the path"):
        read_episodes(tmp_path / "none.hdf5")


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_truncated_file_is_named(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        read_episodes(path)


def test_an_unknown_camera_names_the_known_ones(path):
    with pytest.raises(UserError, match=r"no camera 'front'; it has \['agentview'\]"):
        read_episodes(path, "front")


def test_another_layout_names_what_is_missing(path):
    with h5py.File(path, "a") as file:
        del file["data/demo_2/camera"]
    with pytest.raises(UserError, match="demo_2 has neither camera/agentview nor LIBERO's model_file"):
        read_episodes(path)


def test_a_nan_pose_is_named_with_its_frame(path):
    with h5py.File(path, "a") as file:
        file["data/demo_1/obs/site_pos"][7, 2] = np.nan
    with pytest.raises(UserError, match=r"demo_1 has a non-finite end-effector position at frame 7"):
        read_episodes(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("actions", np.zeros(FRAMES), "another shape or type"),
        ("actions", np.zeros((FRAMES, 6)), "another shape or type"),
        ("actions", np.full((FRAMES, 7), np.nan), "non-finite gripper command at frame 0"),
        ("obs/gripper_states", np.full((FRAMES, 2), np.nan), "non-finite gripper opening at frame 0"),
        ("obs/gripper_states", np.zeros((FRAMES - 1, 2)), f"{FRAMES - 1} values of gripper opening"),
        ("obs/site_ori", np.zeros((FRAMES, 3, 3)), "rotation at frame 0 that is none"),
        ("obs/site_ori", np.tile(np.diag([1.0, 1, -1]), (FRAMES, 1, 1)), "rotation at frame 0 that is none"),
        ("obs/site_ori", np.tile(np.eye(3), (FRAMES - 2, 1, 1)), "values of end-effector rotation"),
        ("obs/site_pos", np.zeros((FRAMES, 2)), "another shape or type|cannot be read"),
        ("obs/agentview_rgb", np.zeros((FRAMES, 32, 32, 3)), "type float64; expected .* uint8"),
        (
            "obs/agentview_rgb",
            np.zeros((FRAMES, 32, 32, 1), np.uint8),
            r"expected frames x rows x columns x 3",
        ),
        ("obs/agentview_rgb", np.zeros((FRAMES, 32, 32), np.uint8), r"expected frames x rows x columns x 3"),
        ("camera/agentview/intrinsics", np.zeros((3, 4)), "another shape or type"),
        ("camera/agentview/world_from_camera", np.zeros((3, 4)), "another shape or type"),
        ("camera/agentview/world_from_camera", np.zeros((4, 4)), "a camera with a pose"),
        ("camera/agentview/world_from_camera", 2 * np.eye(4), "a camera with a pose"),
        ("camera/agentview/world_from_camera", np.diag([1.0, 1, -1, 1]), "a camera with a pose"),
        ("camera/agentview/intrinsics", np.zeros((3, 3)), "a camera with intrinsics"),
        ("camera/agentview/intrinsics", [[40.0, 0, 0], [0, 40, 0], [16, 16, 1]], "a camera with intrinsics"),
        ("actions", np.full((FRAMES, 7), 50.0), "gripper commands from 25.50 to 25.50"),
        ("actions", h5py.SoftLink("/nowhere"), "cannot be read"),
        ("obs/agentview_rgb", h5py.SoftLink("/nowhere"), "cannot be read"),
        ("obs/agentview_rgb", h5py.SoftLink("/data/demo_0"), "a group 'agentview_rgb'"),
    ],
)
def test_what_is_no_demo_of_libero_is_named_and_skipped_when_that_is_asked_for(path, name, value, message):
    edit(path, f"data/demo_1/{name}", value)
    with pytest.raises(UserError, match=f"demo_1 .*({message})"):
        read_episodes(path)
    assert [episode.name for episode in read_episodes(path, on_error="skip")] == ["demo_0", "demo_2"]


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/nowhere"), h5py.ExternalLink("nowhere.hdf5", "/data/demo_1")]
)
def test_a_link_that_leads_nowhere_is_named_and_skipped(path, link):
    with h5py.File(path, "a") as file:
        del file["data/demo_1"]
        file["data/demo_1"] = link
    with pytest.raises(UserError, match="demo_1 cannot be read"):
        read_episodes(path)
    assert [episode.name for episode in read_episodes(path, on_error="skip")] == ["demo_0", "demo_2"]


def test_data_that_are_no_group_are_named(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(UserError, match="holds no group 'data'"):
        read_episodes(tmp_path / "a.hdf5")


def test_a_hole_in_the_images_is_named(path):
    """Zeros where the compressed images are: every hole either reads as something or is one line."""
    content, named = path.read_bytes(), 0
    for place in range(2048, len(content) - 4096, 4096):
        path.write_bytes(content[:place] + bytes(4096) + content[place + 4096 :])
        try:
            for episode in read_episodes(path):
                episode.images([0])
        except UserError:
            named += 1
    assert named > 0


def test_something_else_among_the_demos_is_named(path):
    with h5py.File(path, "a") as file:
        file.create_group("data/mask")
    with pytest.raises(UserError, match="holds 'mask'"):
        read_episodes(path)


def test_unequal_lengths_are_named(path):
    edit(path, "data/demo_0/actions", np.zeros((5, 7)))
    with pytest.raises(UserError, match=r"demo_0 has 24 frames, but 5 values of gripper command"):
        read_episodes(path)


def test_a_clip_longer_than_the_demo_is_named(path):
    with pytest.raises(UserError, match="demo_0 has 24 frames, a clip of 7 with stride 5 spans 31"):
        Clips(read_episodes(path), [], ClipConfig(frames=7, stride=5))


def test_an_end_effector_out_of_view_is_an_error_or_masked(path):
    edit(path, "data/demo_1/obs/site_pos", np.tile([2.0, 0, 1.0], (FRAMES, 1)))
    episodes = read_episodes(path)
    with pytest.raises(UserError, match=r"demo_1: the end effector is outside the image at frame 0"):
        split(episodes, DataConfig(validation_demos=1))
    training = split(episodes, DataConfig(validation_demos=1, out_of_view="mask")).training
    clips = clips_of(path, training)
    assert clips[0].actions.valid.all() and not clips[FRAMES].actions.valid.any()


def test_demos_of_which_nothing_is_in_view_are_refused_even_where_steps_may_be_masked(path):
    for episode in read_episodes(path):
        edit(path, f"data/{episode.name}/obs/site_pos", np.tile([2.0, 0, 1.0], (FRAMES, 1)))
    with pytest.raises(UserError, match="in view at no moment of any demo"):
        split(read_episodes(path), DataConfig(validation_demos=1, out_of_view="mask"))


def test_a_rotation_that_no_episode_has_cannot_be_learnt(path):
    episodes = [replace(episode, has_rotation=False) for episode in read_episodes(path)]
    config = TrainPolicyConfig(loss=LossConfig(rotation=1.0))
    with pytest.raises(UserError, match=r"loss\.rotation 1, but no episode has a rotation"):
        build_policy(config, shaped_autoencoder(config), workspace(episodes), episodes)


def test_the_workspace_knows_the_episodes_rate(path):
    episodes = read_episodes(path)
    assert workspace(episodes).rate == pytest.approx(20.0)
    assert workspace([at_rate(episode, 10.0) for episode in episodes]).rate == pytest.approx(10.0)


def clips_of(path: Path, episodes, **kwargs) -> Clips:
    frames = cache_frames(episodes, lambda x: x[:, :, ::8, ::8], ZeroContext(4), [], path.parent / "latents")
    return Clips(episodes, [frames] * len(episodes), ClipConfig(frames=4, stride=3), **kwargs)


def test_clip_frames_and_action_steps_are_the_same_moments(path):
    episodes = read_episodes(path)
    clip = clips_of(path, episodes)[FRAMES + 2]  # moment 2 of demo 1; then 5, 8, 11
    pixels = to_float(episodes[1].images()[[2, 5, 8, 11]])[:, :, ::8, ::8]
    torch.testing.assert_close(clip.latents, pixels.half().float())
    torch.testing.assert_close(clip.actions.position, episodes[1].position[[5, 8, 11]])
    torch.testing.assert_close(clip.state.position, episodes[1].position[2])


def test_a_clip_that_runs_past_the_end_repeats_the_last_moment(path):
    episodes = read_episodes(path)
    clip = clips_of(path, episodes)[FRAMES - 2]
    torch.testing.assert_close(clip.actions.position, episodes[0].position[-1].expand(3, 3))


def test_there_are_no_labels_past_the_end(path):
    clips = clips_of(path, read_episodes(path))
    valid = [clips[FRAMES - k].actions.valid.tolist() for k in (1, 4, 7, 10)]
    assert valid == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]


def test_presents_may_end_with_the_last_release(path):
    gap = np.full((FRAMES, 2), 0.04)
    gap[6:10] = 0.01  # closed by the first grasp
    gap[14:20] = 0.01  # and by the second
    gap[20] = 0.03
    edit(path, "data/demo_1/obs/gripper_states", gap * [1, -1])
    command = np.full(FRAMES, -1.0)
    command[5:9], command[13:19] = 1, 1
    edit(path, "data/demo_1/actions", np.outer(command, np.eye(7)[6]))
    never, twice, _ = episodes = read_episodes(path)
    assert never.release == FRAMES  # still closed at the end
    assert twice.release == 21  # commanded at 19, three quarters open at 20
    assert len(clips_of(path, episodes[:2])) == 2 * FRAMES
    clips = clips_of(path, episodes[:2], until="release")
    assert len(clips) == FRAMES + 21
    torch.testing.assert_close(clips[FRAMES + 20].state.position, twice.position[20])
    torch.testing.assert_close(clips[FRAMES + 20].actions.position[0], twice.position[23])


def test_a_grasp_is_where_an_open_hand_closes(path):
    """A demonstration of a recovery begins with a closed hand."""
    command = np.full(FRAMES, -1.0)
    command[:4], command[9:15] = 1, 1
    for demo, again in ((1, command), (2, np.ones(FRAMES))):
        edit(path, f"data/demo_{demo}/actions", np.outer(again, np.eye(7)[6]))
    _, twice, never_open = read_episodes(path)
    assert torch.equal(twice.grasp, twice.position[9, :2])
    assert torch.equal(never_open.grasp, never_open.position[0, :2])


def test_the_digest_of_episodes_is_of_what_they_are_and_not_of_where_they_lie(path, tmp_path):
    episodes = read_episodes(path)
    shutil.copy(path, tmp_path / "elsewhere.hdf5")
    assert content_of(read_episodes(tmp_path / "elsewhere.hdf5")) == content_of(episodes)
    others = (
        episodes[:2],
        episodes[::-1],
        [*episodes[:2], replace(episodes[2], position=episodes[2].position + 0.01)],
    )
    assert len({content_of(each) for each in (episodes, *others)}) == 4


def test_validation_demos_are_never_trained_on(path):
    episodes = read_episodes(path)
    found = split(episodes, DataConfig(validation_demos=1, demos=1))
    assert [[e.name for e in part] for part in found] == [["demo_0"], ["demo_1"], ["demo_2"]]
    with pytest.raises(UserError, match="asks for 3 training demos, the rollouts hold 2"):
        split(episodes, DataConfig(validation_demos=1, demos=3))


def test_unlabelled_demos_give_video_and_no_actions(path):
    clips = clips_of(path, read_episodes(path), unlabelled=2)
    assert clips.labelled == FRAMES < len(clips) == 3 * FRAMES
    assert clips[0].actions.valid.all() and not clips[FRAMES].actions.valid.any()
    torch.testing.assert_close(clips[FRAMES].latents, clips_of(path, read_episodes(path))[FRAMES].latents)


def test_the_workspace_holds_every_position(path):
    space = workspace(read_episodes(path))
    assert space.image_size == (SIZE, SIZE) and space.low[0] < -0.3 and space.high[0] > 0.3
    wider = (-1.0, -1.0, 0.0, 1.0, 1.0, 2.0)
    assert workspace(read_episodes(path), wider)[1:3] == (wider[:3], wider[3:])
    with pytest.raises(UserError, match=r"data\.workspace .* does not hold the end effector"):
        workspace(read_episodes(path), (-0.1, *wider[1:]))


def test_frames_are_encoded_once_and_again_when_the_source_changes(path, capsys):
    calls = []

    def encode(x):
        calls.append(len(x))
        return x[:, :, ::8, ::8]

    folder = path.parent / "latents"
    episodes = read_episodes(path)
    first = cache_source(episodes, encode, ZeroContext(4), [], folder)["demo_0"]
    again = cache_source(episodes, encode, ZeroContext(4), [], folder)["demo_0"]
    assert sum(calls) == 3 * FRAMES and np.array_equal(first.latents, again.latents)
    cache_source(read_episodes(path)[:2], encode, ZeroContext(4), [], folder)  # of the same state of the file
    assert "as it was before" not in capsys.readouterr().err
    write(path, demos=2)
    cache_source(read_episodes(path), encode, ZeroContext(4), [], folder)
    assert sum(calls) == 7 * FRAMES
    old = [line for line in capsys.readouterr().err.splitlines() if f"is of {path} as it was before" in line]
    assert len(old) == 2 and all(Path(line.split()[0]) in folder.iterdir() for line in old)


def test_an_interrupted_encoding_goes_on_where_it_stopped(path):
    calls = []

    def encode(x):
        if len(calls) == 2:
            calls.append("stop")
            raise KeyboardInterrupt
        calls.append(len(x))
        return x[:, :, ::8, ::8]

    folder = path.parent / "latents"
    episodes = read_episodes(path)
    with pytest.raises(KeyboardInterrupt):
        cache_frames(episodes, encode, ZeroContext(4), [], folder)
    frames = cache_frames(episodes, encode, ZeroContext(4), [], folder)
    whole = cache_frames(episodes, lambda x: x[:, :, ::8, ::8], ZeroContext(4), [], path.parent / "other")
    assert len(calls) == 4 and np.array_equal(frames.latents, whole.latents) and frames.first == whole.first


def encoded_by_two(path: Path, index: ContextVar[int]) -> list[list[int]]:
    """Encode with two processes, that hold what encoding alone gives; frames that each encoded, call by call.

    Threads stand for the processes: they share nothing but the folder and the barrier. `index` says which one it is.
    """
    shares, barrier, folder = [[], []], Barrier(2), path.parent / "latents"

    class Member(NamedTuple):
        process_index: int
        num_processes: int = 2
        device: torch.device = torch.device("cpu")

        def wait_for_everyone(self) -> None:
            barrier.wait(10)

    def run(rank: int) -> CachedFrames:
        def encode(x):
            shares[rank].append(len(x))
            return x[:, :, ::8, ::8]

        index.set(rank)
        return cache_frames(read_episodes(path), encode, ZeroContext(4), [], folder, Member(rank))

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, (0, 1)))
    whole = cache_frames(
        read_episodes(path), lambda x: x[:, :, ::8, ::8], ZeroContext(4), [], path.parent / "other"
    )
    assert all(np.array_equal(each.latents, whole.latents) and each.first == whole.first for each in found)
    return shares


def test_processes_encode_a_share_each(path):
    assert encoded_by_two(path, ContextVar("index")) == [[FRAMES, FRAMES], [FRAMES]]


@pytest.mark.parametrize("late", ["notes", "index", "sizes"])
def test_what_another_machine_wrote_to_a_network_disk_may_show_late(path, monkeypatch, late):
    """Of what the other has written rank 1, or for the notes rank 0, sees nothing at its first looks."""
    index, looks = ContextVar("index", default=-1), Counter()

    def shows_late(genuine, nothing, rank: int):
        def look(*args):
            looks[rank] += index.get() == rank
            return nothing(*args) if index.get() == rank and looks[rank] < 4 else genuine(*args)

        return look

    if late == "notes":
        monkeypatch.setattr(notes, "finished", shows_late(notes.finished, lambda _: {}, 0))
    elif late == "index":
        monkeypatch.setattr(cached_frames, "read_index", shows_late(cached_frames.read_index, missing, 1))
    else:
        monkeypatch.setattr(cached_frames, "_size", shows_late(cached_frames._size, lambda _: 0, 1))
    assert encoded_by_two(path, index) == [[FRAMES, FRAMES], [FRAMES]]
    assert looks.total() >= 4


def missing(path: Path) -> dict[str, object]:
    raise FileNotFoundError(path)


def test_processes_that_differ_in_what_they_see_finished_leave_no_episode_out(path, monkeypatch):
    """Rank 1 does not see what an earlier call has finished."""
    index = ContextVar("index", default=-1)

    def stopped(x):
        raise KeyboardInterrupt

    earlier = [lambda x: x[:, :, ::8, ::8], stopped]
    with pytest.raises(KeyboardInterrupt):
        cache_frames(
            read_episodes(path), lambda x: earlier.pop(0)(x), ZeroContext(4), [], path.parent / "latents"
        )
    genuine = notes.finished
    monkeypatch.setattr(notes, "finished", lambda path: {} if index.get() == 1 else genuine(path))
    assert encoded_by_two(path, index) == [[FRAMES], [FRAMES]]


def test_large_frames_are_read_in_smaller_blocks_than_they_are_encoded_in(path, monkeypatch):
    """The pixels of a block are bounded, as stored."""
    episodes, blocks = read_episodes(path), []
    rows, columns = episodes[0].stored_size
    monkeypatch.setattr(latents, "READ", 3 * rows * columns)
    genuine = Episode.blocks
    monkeypatch.setattr(
        Episode, "blocks", lambda self, n, moments: blocks.append(n) or genuine(self, n, moments)
    )
    encoded = []
    cache_frames(episodes, lambda x: encoded.append(len(x)) or x, ZeroContext(4), [], path.parent / "latents")
    assert blocks == [3, 3, 3] and encoded == [FRAMES] * 3


def test_a_long_episode_is_shared_too_and_what_is_finished_of_it_is_kept(path, monkeypatch):
    """Three episodes of two pieces each, of which the fourth fails at first."""
    monkeypatch.setattr(latents, "PIECE", FRAMES - 1)
    episodes, calls, folder = read_episodes(path), [], path.parent / "latents"

    def encode(x):
        calls.append(len(x))
        if len(calls) == 4:
            raise OSError("the disk is away")
        return x[:, :, ::8, ::8]

    with pytest.raises(UserError, match="3 of its 6 pieces are kept"):
        cache_frames(episodes, encode, ZeroContext(4), [], folder)
    found = cache_frames(episodes, encode, ZeroContext(4), [], folder)
    assert calls == [FRAMES - 1, 1] * 2 + [1] + [FRAMES - 1, 1]
    monkeypatch.undo()
    whole = cache_frames(episodes, lambda x: x[:, :, ::8, ::8], ZeroContext(4), [], path.parent / "other")
    assert np.array_equal(found.latents, whole.latents) and found.first == whole.first


def test_what_another_machine_wrote_is_waited_for_and_by_one_alone_it_is_not():
    """As on a network disk, where it shows only after a while."""
    asked = []

    def there() -> bool:
        asked.append(None)
        return len(asked) > 2

    assert not seen_by_now(there, Alone()) and len(asked) == 1
    assert seen_by_now(there, Alone(num_processes=2)) and len(asked) == 3


def test_a_full_disk_names_the_cache_and_keeps_what_is_done(path, monkeypatch):
    written = []

    def write(descriptor_path, array, row):
        if len(written) == 2:  # latents and context of the first demo
            raise OSError(28, "No space left on device")
        written.append(row)
        genuine(descriptor_path, array, row)

    genuine = latents._write_rows
    monkeypatch.setattr(latents, "_write_rows", write)
    with pytest.raises(UserError, match=r"No space left on device; free space .* 1 of its 3 pieces are kept"):
        clips_of(path, read_episodes(path))
    monkeypatch.undo()
    assert len(clips_of(path, read_episodes(path))) == 3 * FRAMES


def test_corners_come_first_and_then_whatever_is_farthest():
    table = torch.cartesian_prod(torch.linspace(-0.3, 0.1, 5), torch.linspace(-0.3, 0.3, 7))
    chosen = table[corners_first(table, 5)]
    assert {tuple(place) for place in chosen[:4].round(decimals=3).tolist()} == {
        (x, y) for x in (torch.tensor(-0.3).item(), torch.tensor(0.1).item())
        for y in (torch.tensor(-0.3).item(), torch.tensor(0.3).item())
    }  # fmt: skip
    torch.testing.assert_close(chosen[4], torch.tensor([-0.1, 0.0]))
    assert len(set(corners_first(table, 35))) == 35
    assert sorted(corners_first(torch.zeros(6, 2), 6)) == list(range(6))  # all at one place: each once


@pytest.mark.parametrize(
    ("name", "keep", "message"),
    [
        ("latents.f16", 0.5, r"latents\.f16 has \d+ bytes, its index says \d+; delete"),
        ("index.json", 0.5, r"index\.json is damaged .*delete"),
    ],
)
def test_a_damaged_cache_is_named(path, name, keep, message):
    episodes, folder = read_episodes(path), path.parent / "latents"

    def cached():
        return cache_frames(episodes, lambda x: x[:, :, ::8, ::8], ZeroContext(4), [], folder)

    cached()
    (file,) = folder.glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(UserError, match=message):
        cached()


def test_clips_of_the_present_alone_have_the_same_present_and_all_labels(path):
    whole = clips_of(path, read_episodes(path), shift=1)
    for clips, index in ((first_frames(whole, 1), 7), (first_frames(Subset(whole, [4, 7]), 1), 1)):
        torch.manual_seed(0)
        short = clips[index]
        torch.manual_seed(0)
        expected = whole[7]
        assert short.latents.shape[0] == 1 and torch.equal(short.latents, expected.latents[:1])
        assert all(torch.equal(a, b) for a, b in zip(short.actions, expected.actions, strict=True))
        assert torch.equal(short.camera.intrinsics, expected.camera.intrinsics)
    assert whole[7].latents.shape[0] == 4  # the others keep theirs


def test_of_each_source_its_last_demos_are_held_out_in_proportion(path, tmp_path):
    """40 demos of one source and 12 of another: 16 held out of all would be every one of the second."""
    demo = read_episodes(path)[0]
    episodes = [
        replace(demo, source=tmp_path / name, name=f"demo_{i}")
        for name, count in (("big", 40), ("small", 12))
        for i in range(count)
    ]
    parts = split(episodes, DataConfig(validation_demos=16))
    held_out = [(episode.source.name, episode.name) for episode in parts.held_out]
    assert held_out == [("big", f"demo_{i}") for i in range(28, 40)] + [
        ("small", f"demo_{i}") for i in range(8, 12)
    ]
    assert len(parts.training) == 36 and not set(map(id, parts.training)) & set(map(id, parts.held_out))
    pair = [episodes[0], *episodes[40:43]]
    assert [e.source.name for e in split(pair, DataConfig(validation_demos=2)).held_out] == ["small", "small"]


def test_another_seed_trains_on_other_demos_and_holds_the_same_ones_out(path):
    episodes = [copy.copy(episode) for episode in read_episodes(path) * 8]
    drawn = [split(episodes, DataConfig(validation_demos=8, demos=4), seed) for seed in (0, 1, 1, 2)]
    numbers = [
        [next(i for i, e in enumerate(episodes) if e is demo) for demo in found.training] for found in drawn
    ]
    assert numbers[0] == [0, 1, 2, 3]
    assert numbers[1] == numbers[2] != numbers[3] and len(set(numbers[1])) == 4
    for found in drawn:
        assert all(a is b for a, b in zip(found.held_out, drawn[0].held_out, strict=True))
        assert len(found.training) + len(found.unlabelled) == 16


@pytest.mark.parametrize("seed", [0, 1])
def test_every_task_of_a_suite_is_held_out_and_trained_on_with_few_demos_too(path, seed):
    """Ten tasks one after the other, as a suite's files in one folder."""
    demo = read_episodes(path)[0]
    episodes = [replace(demo, task=f"task {i // 50}", name=f"demo_{i}") for i in range(500)]
    found = split(episodes, DataConfig(validation_demos=16, demos=16), seed)
    tasks = {f"task {i}" for i in range(10)}
    assert {episode.task for episode in found.held_out} == tasks
    assert {episode.task for episode in found.training} == tasks and len(found.training) == 16
    assert not {episode.name for episode in found.held_out} & {episode.name for episode in found.training}
