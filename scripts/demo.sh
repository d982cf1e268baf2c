#!/usr/bin/env bash
# The two-stage job from end to end, at a size that two CPU cores manage in an hour: `make demo` runs this.
#
#   rollouts    a scripted expert demonstrates the task in the LIBERO simulator
#   check       projected, target and lifted points drawn on the recorded frames
#   video       stage one: a small video diffusion UNet learns to predict the clips
#   policies    stage two, global regression, joint training, and few labels with a video model and without
#   evaluation  every policy drives the simulated arm from the same held-out starts
#   page        the table, the curves, the strips and the videos in one HTML file
#
# After an interrupt the same command goes on where it stopped. To start afresh: make clean.
set -euo pipefail
cd "$(dirname "$0")/.."

export MUJOCO_GL=${MUJOCO_GL:-egl} HF_HUB_OFFLINE=1
sed -n '2,11s/^# \{0,1\}//p' "$0"
exec .venv/bin/python stages/reproduce.py configs/experiments/demo.yaml --jobs "$(($(nproc) < 2 ? 1 : 2))"
