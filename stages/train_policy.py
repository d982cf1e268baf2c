"""Stage two: train the video UNet and the action head jointly. Every variant is a YAML file.

python stages/train_policy.py configs/policy/two_stage.yaml configs/pocket.yaml
"""

import torch

from vidpara import build, memory
from vidpara.build_data import build_data
from vidpara.cli import dump, main
from vidpara.config import TrainPolicyConfig
from vidpara.data.sources import read_sources
from vidpara.data.split import workspace
from vidpara.evaluation.evaluators import ActionErrors, ImaginedPlans, Strips
from vidpara.hub import prepare_push, push
from vidpara.run_folder import save_card, save_policy
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import launched, processes
from vidpara.training.sharding import check_launch
from vidpara.training.trainer import train


@launched()
def run(config: TrainPolicyConfig, argv: list[str]) -> None:
    if config.plan:
        print(memory.report(config, config.plan))
        return
    check_launch(config.trainer, config.optimizer)
    state = processes()
    prepare_push(config.hub)
    torch.manual_seed(config.trainer.seed)  # of new weights: the same on every process
    resolved = dump(config)
    episodes = read_sources(config.data)
    initial = build.from_video_run(config)
    autoencoder = build.build_reader(initial, episodes)
    space = workspace(episodes, config.data.workspace)
    videos = any(not episode.labelled for episode in episodes)
    policy = build.build_policy(initial, autoencoder, space, videos)
    data = build_data(
        config, episodes, autoencoder, policy.image_encoder, state, policy.acting, labelled=True
    )
    vis = config.run / "vis"
    evaluators = [ActionErrors(data.validation), Strips(data.training, data.validation, vis)]
    if config.policy.kind == "video":
        evaluators.append(ImaginedPlans(data.validation, config.sample_steps, vis))
    else:
        data = data.of_the_present()
    policy = train(
        policy,
        data.training,
        data.validation,
        config=config.trainer,
        optimizer=config.optimizer,
        weights=config.loss,
        groups=[
            ParamGroup(
                "backbone", list(policy.backbone.parameters()), config.optimizer.of_backbone, hidden=True
            ),
            ParamGroup("head", list(policy.head.parameters()), config.optimizer.lr),
        ],
        layers=policy.units(),
        shares=data.shares,
        content=data.content,
        run=config.run,
        resolved=resolved,
        argv=argv,
        defaults=dump(TrainPolicyConfig()),
        evaluators=evaluators,
    )
    if state.is_main_process:
        save_policy(config.run, policy, space)
        save_card(config.run, config)
        if config.hub.push:
            print(push(config.run, config.hub.push, config.hub.private))


if __name__ == "__main__":
    main(TrainPolicyConfig, run)
