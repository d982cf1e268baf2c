"""Copy a finished run's weights, in half precision, into a folder small enough to share: a policy, or stage one's video
model.

python stages/export_policy.py --run runs/two_stage --output checkpoints/pocket_two_stage
"""

import shutil

from vidpara.cli import UserError, main
from vidpara.config import ExportConfig
from vidpara.files import beside
from vidpara.run_folder import load_policy, load_video, read_workspace, save_policy, save_video


def run(config: ExportConfig, argv: list[str]) -> None:
    if config.output.exists():
        raise UserError(f"{config.output} exists; choose another --output, or delete it first")
    with beside(config.output) as folder:
        folder.mkdir()
        if (config.run / "unet").is_dir() and not (config.run / "head.safetensors").is_file():
            video, *encoders = load_video(config.run)
            save_video(folder, video.half(), *(encoder.half() for encoder in encoders))
        else:
            save_policy(folder, load_policy(config.run).half(), read_workspace(config.run))
        shutil.copy(config.run / "config.yaml", folder)
    size = sum(path.stat().st_size for path in config.output.rglob("*") if path.is_file())
    print(f"{config.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(ExportConfig, run)
