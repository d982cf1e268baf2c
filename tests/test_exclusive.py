"""What is written to by one command is refused to a second one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidpara.cli import UserError
from vidpara.exclusive import exclusive

HOLD = """
import sys, time
from pathlib import Path
from vidpara.exclusive import exclusive
with exclusive(Path(sys.argv[1]), ""):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_against_other_processes_until_its_own_ends_however(tmp_path: Path):
    lock = tmp_path / "new/folder/output.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="the output is taken"), exclusive(lock, "the output is taken"):
        pass
    other.kill()
    other.wait()
    for _ in range(2):  # the first one lets go of it, too
        with exclusive(lock, "the output is taken"):
            pass
    assert not lock.exists()
