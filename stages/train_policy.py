"""Stage two: train the video UNet and the action head jointly. Every variant is a YAML file.

python stages/train_policy.py configs/policy/two_stage.yaml configs/pocket.yaml
"""

import torch

from vidpara import memory
from vidpara.build_data import build_data
from vidpara.build_policy import build_policy, build_reader, from_video_run
from vidpara.cli import dump, main
from vidpara.config import TrainPolicyConfig
from vidpara.data.sources import read_sources
from vidpara.data.split import workspace
from vidpara.evaluation.evaluators import ActionErrors, ImaginedPlans, Strips
from vidpara.hub import prepare_push, push
from vidpara.policy import Policy
from vidpara.run_folder import PRODUCTS, save_card, save_policy
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
    episodes = read_sources(config.data)
    initial = from_video_run(config)
    autoencoder = build_reader(initial, episodes)
    space = workspace(episodes, config.data.workspace)
    policy = build_policy(initial, autoencoder, space, not all(episode.labelled for episode in episodes))
    data = build_data(
        config, episodes, autoencoder, policy.image_encoder, state, policy.acting, labelled=True
    )

    def save(trained: Policy) -> None:
        save_policy(config.run, trained, space)
        save_card(config.run, config)

    evaluators = [ActionErrors(data.validation), Strips(data.training, data.validation, config.run / "vis")]
    if config.policy.kind == "video":
        evaluators.append(ImaginedPlans(data.validation, config.sample_steps, config.run / "vis"))
    else:
        data = data.of_the_present()
    backbone, head = list(policy.backbone.parameters()), list(policy.head.parameters())
    train(
        policy,
        data.training,
        data.validation,
        config=config.trainer,
        optimizer=config.optimizer,
        weights=config.loss,
        groups=[
            ParamGroup("backbone", backbone, config.optimizer.of_backbone, hidden=True),
            ParamGroup("head", head, config.optimizer.lr),
        ],
        layers=policy.units(),
        shares=data.shares,
        content=data.content,
        run=config.run,
        resolved=dump(config),
        argv=argv,
        defaults=dump(TrainPolicyConfig()),
        evaluators=evaluators,
        save=save,
        products=PRODUCTS,
    )
    if state.is_main_process and config.hub.push:
        print(push(config.run, config.hub.push, config.hub.private))


if __name__ == "__main__":
    main(TrainPolicyConfig, run)
