"""vidpara: turn a video diffusion model into a robot policy with pixel-aligned action heads."""

__version__ = "0.1.0"
