"""Every launch file is one that Accelerate reads, and says nothing of precision, which is the trainer's."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

FILES = sorted((Path(__file__).parents[2] / "accelerate_configs").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_launch_file_is_read_by_accelerate(file):
    config = load_config_from_file(str(file))  # raises for keys that it does not know
    assert isinstance(config, ClusterConfig)
    assert config.mixed_precision == "no" and config.num_processes >= config.num_machines


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_two_jobs_on_one_machine_do_not_meet_at_a_port(file):
    """Accelerate's default is one port for all; whichever of two jobs comes second fails to listen there."""
    config = load_config_from_file(str(file))
    if config.num_processes > 1 and config.num_machines == 1:
        assert config.main_process_port == 0


def test_a_file_with_an_unknown_key_would_be_refused(tmp_path):
    (tmp_path / "wrong.yaml").write_text(FILES[0].read_text() + "num_proceses: 2\n")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(tmp_path / "wrong.yaml"))
