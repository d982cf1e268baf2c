"""What several processes of one launch tell one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.launching import ROOT, launch
from vidpara.cli import UserError
from vidpara.training.processes import first_only

SCRIPT = """
import os, sys
from pathlib import Path
import torch
from vidpara.cli import UserError
from vidpara.training.processes import first_only, launched

folder, rank = Path(sys.argv[1]), os.environ["RANK"]

def refuse():
    raise UserError(f"no token, says {rank}")

with launched():
    first_only((folder / f"did_{rank}").touch)
    try:
        first_only(refuse)
    except UserError as error:
        (folder / f"heard_{rank}").write_text(str(error))
(folder / f"parted_{rank}").write_text(str(not torch.distributed.is_initialized()))
"""


def test_one_process_is_the_first():
    done = []
    first_only(lambda: done.append(1))
    assert done == [1]

    def refuse() -> None:
        raise UserError("no token")

    with pytest.raises(UserError, match="no token"):
        first_only(refuse)


def test_the_first_process_acts_all_hear_its_words_and_part_in_order(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = launch(
        "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs/cpu_2.yaml"),
        str(tmp_path / "script.py"), str(tmp_path),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    said = {path.name: path.read_text() for path in tmp_path.glob("*_*")}
    heard = {f"heard_{rank}": "no token, says 0" for rank in range(2)}
    assert said == {"did_0": "", **heard, "parted_0": "True", "parted_1": "True"}
