"""Every setting in one place: one frozen dataclass a component, one a stage.

A component receives its own section and never the whole configuration. Lengths are metres, angles degrees, times
control steps (20 Hz) unless a name says otherwise.
"""

from vidpara.config.data import ClipConfig, DataConfig, LeRobotConfig
from vidpara.config.models import (
    ACTConfig,
    AutoencoderConfig,
    DiffusionConfig,
    HeadConfig,
    ImageEncoderConfig,
    PolicyConfig,
    UNetConfig,
    ViTConfig,
)
from vidpara.config.simulation import ControllerConfig, ExpertConfig, SceneConfig
from vidpara.config.stages import (
    CheckConfig,
    CollectConfig,
    EvaluateConfig,
    ExportConfig,
    ExportLeRobotConfig,
    RenderConfig,
    ReportConfig,
    TrainPolicyConfig,
    TrainVideoConfig,
)
from vidpara.config.training import HubConfig, LossConfig, OptimizerConfig, TrainerConfig

__all__ = [
    "ACTConfig", "AutoencoderConfig", "CheckConfig", "ClipConfig", "CollectConfig", "ControllerConfig", "DataConfig",
    "DiffusionConfig", "EvaluateConfig", "ExpertConfig", "ExportConfig", "ExportLeRobotConfig", "HeadConfig",
    "HubConfig", "ImageEncoderConfig", "LeRobotConfig", "LossConfig", "OptimizerConfig", "PolicyConfig",
    "RenderConfig", "ReportConfig", "SceneConfig", "TrainPolicyConfig", "TrainVideoConfig", "TrainerConfig",
    "UNetConfig", "ViTConfig",
]  # fmt: skip
