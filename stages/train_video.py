"""Stage one: fine-tune the video UNet on rollouts.

python stages/train_video.py configs/video/stage_one.yaml configs/pocket.yaml
"""

import torch

from vidpara import build, memory
from vidpara.build_data import build_data
from vidpara.cli import dump, main
from vidpara.config import TrainVideoConfig
from vidpara.data.seen import note_seen
from vidpara.data.sources import read_sources
from vidpara.evaluation.evaluators import GeneratedClips
from vidpara.hub import prepare_push, push
from vidpara.models.checkpointing import layers
from vidpara.models.svd import VideoModel
from vidpara.run_folder import PRODUCTS, as_begun, keep_fitted, save_card, save_video
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import after_the_first, launched, processes
from vidpara.training.sharding import check_launch
from vidpara.training.trainer import train


@launched()
def run(config: TrainVideoConfig, argv: list[str]) -> None:
    if config.plan:
        print(memory.report(config, config.plan))
        return
    check_launch(config.trainer, config.optimizer)
    state = processes()
    prepare_push(config.hub)
    torch.manual_seed(config.trainer.seed)  # of new weights: the same on every process
    episodes = after_the_first(lambda: read_sources(config.data))
    initial = as_begun(config)
    autoencoder = build.build_autoencoder(initial.autoencoder, episodes)
    frames = config.data.clip.frames
    model = build.build_video_model(config.unet, config.diffusion, autoencoder, frames)
    image_encoder = build.build_image_encoder(config.image_encoder, model.unet.config.cross_attention_dim)
    data = build_data(config, episodes, autoencoder, image_encoder, state, model.blank, labelled=False)

    def save(trained: VideoModel) -> None:
        note_seen(config.run, data.seen)
        save_video(config.run, trained, autoencoder, image_encoder)
        save_card(config.run, config)

    vis = config.run / "vis"
    generated = GeneratedClips(data.validation, autoencoder, config.samples, config.sample_steps, vis)
    train(
        model,
        data.training,
        data.validation,
        config=config.trainer,
        optimizer=config.optimizer,
        weights={"video": 1.0},
        groups=[ParamGroup("video", list(model.parameters()), config.optimizer.of_backbone, hidden=True)],
        layers=layers(model),
        shares=data.shares,
        content=data.content,
        run=config.run,
        resolved=dump(config),
        argv=argv,
        defaults=dump(TrainVideoConfig()),
        evaluators=[generated] if config.samples else [],
        begin=lambda: keep_fitted(initial, autoencoder),
        save=save,
        products=PRODUCTS,
    )
    if state.is_main_process and config.hub.push:
        print(push(config.run, config.hub.push, config.hub.private))


if __name__ == "__main__":
    main(TrainVideoConfig, run)
