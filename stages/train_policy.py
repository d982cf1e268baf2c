"""Stage two: train the video UNet and the action head jointly. Every variant is a YAML file.

python stages/train_policy.py configs/policy/two_stage.yaml configs/pocket.yaml
"""

import torch

from vidpara import memory
from vidpara.build_data import build_data
from vidpara.build_policy import as_told, build_policy, build_reader, from_video_run
from vidpara.cli import dump, main
from vidpara.config import TrainPolicyConfig
from vidpara.data.sources import read_sources
from vidpara.data.split import workspace
from vidpara.evaluation.evaluators import ActionErrors, ImaginedPlans, Strips
from vidpara.hub import prepare_push, push
from vidpara.policy import VideoPolicy
from vidpara.run_folder import PRODUCTS, as_begun, keep_fitted, save_policy
from vidpara.training.optimizer import ParamGroup
from vidpara.training.processes import after_the_first, launched, processes
from vidpara.training.sharding import check_launch
from vidpara.training.trainer import train


@launched()
def run(config: TrainPolicyConfig, argv: list[str]) -> None:
    if config.plan:
        print(memory.report(config, config.plan))
        return
    check_launch(config.trainer, config.optimizer)
    team = processes()
    prepare_push(config.hub)
    torch.manual_seed(config.trainer.seed)  # of new weights: the same on every process
    episodes = after_the_first(lambda: read_sources(config.data))
    initial = as_begun(from_video_run(config))
    autoencoder = build_reader(initial, episodes)
    space = workspace(episodes, config.data.workspace)
    policy = build_policy(initial, autoencoder, space, episodes)
    config = as_told(config, policy.head)
    data = build_data(config, episodes, autoencoder, policy.image_encoder, team, policy.acting, labelled=True)

    # of whole clips; what a policy that sees the present alone is trained on has their first frames
    evaluators = [ActionErrors(data.validation), Strips(data.training, data.validation, config.run / "vis")]
    if isinstance(policy, VideoPolicy):
        evaluators.append(ImaginedPlans(data.validation, config.sample_steps, config.run / "vis"))
    if not policy.sees_clips:
        data = data.of_the_present()
    train(
        policy,
        data.training,
        data.validation,
        config=config.trainer,
        optimizer=config.optimizer,
        weights=config.loss,
        groups=[
            ParamGroup(
                "backbone", [*policy.backbone.parameters()], config.optimizer.of_backbone, hidden=True
            ),
            ParamGroup("head", [*policy.head.parameters()], config.optimizer.lr),
        ],
        layers=policy.units(),
        shares=data.shares,
        content=data.content,
        run=config.run,
        resolved=dump(config),
        argv=argv,
        defaults=dump(TrainPolicyConfig()),
        evaluators=evaluators,
        begin=lambda: keep_fitted(initial, autoencoder),
        save=lambda trained: save_policy(config.run, trained, space, config),
        products=PRODUCTS,
    )
    if team.is_main_process and config.hub.push:
        print(push(config.run, config.hub.push, config.hub.private))


if __name__ == "__main__":
    main(TrainPolicyConfig, run)
