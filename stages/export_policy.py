"""Copy a finished policy run's weights, in half precision, into a folder small enough to share.

python stages/export_policy.py --run runs/two_stage --output checkpoints/pocket_two_stage
"""

import shutil

from vidpara.cli import main
from vidpara.config import ExportConfig
from vidpara.run_folder import load_policy, read_workspace, save_policy


def run(config: ExportConfig, argv: list[str]) -> None:
    policy = load_policy(config.run).half()
    config.output.mkdir(parents=True, exist_ok=True)
    save_policy(config.output, policy, read_workspace(config.run))
    shutil.copy(config.run / "config.yaml", config.output)
    size = sum(path.stat().st_size for path in config.output.rglob("*") if path.is_file())
    print(f"{config.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(ExportConfig, run)
