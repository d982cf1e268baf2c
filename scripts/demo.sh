#!/usr/bin/env bash
# The two-stage job from end to end, at a size that two CPU cores train in minutes: `make demo` runs this.
#
#   1  collect    a scripted expert demonstrates the task in the LIBERO simulator        -> demo/rollouts.hdf5
#   2  check      projected, target and lifted points drawn on the recorded frames       -> demo/check/
#   3  video      stage one: a small video diffusion UNet learns to predict the clips    -> demo/runs/video
#   4  policies   stage two and three baselines, one YAML file each                      -> demo/runs/VARIANT
#   5  evaluate   every policy drives the simulated arm from the same held-out starts    -> demo/results/VARIANT.json
#   6  report     the table, and one HTML page with curves, strips and videos            -> demo/page.html
#
# Every step goes on where it was stopped, so after an interrupt the same command continues. To start afresh: make clean.
set -euo pipefail
cd "$(dirname "$0")/.."

export MUJOCO_GL=${MUJOCO_GL:-egl} WANDB_MODE=${WANDB_MODE:-offline} WANDB_SILENT=true HF_HUB_OFFLINE=1
python=.venv/bin/python
variants="two_stage joint frozen_backbone global_regression"
small="configs/pocket.yaml configs/demo.yaml"
timings=demo/timings.json
number=0 steps=13
mkdir -p demo/results

# step NAME COMMAND...: say what runs, run it, say how long it took, and add that to demo/timings.json.
step() {
    local name=$1 began=$SECONDS status=0
    shift
    number=$((number + 1))
    printf '\n[%d/%d] %s\n        %s\n' "$number" "$steps" "$name" "${*/#$python/python}"
    "$@" || status=$?
    "$python" - "$timings" "$name" $((SECONDS - began)) <<'PYTHON'
import json, pathlib, sys
path, name, seconds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
spent = json.loads(path.read_text()) if path.exists() else {}
spent[name] = spent.get(name, 0) + seconds
path.write_text(json.dumps(spent, indent=2) + "\n")
print(f"        {seconds} s")
PYTHON
    if [ "$status" != 0 ]; then
        echo "demo: step '$name' stopped with status $status; 'make demo' goes on from here" >&2
        exit "$status"
    fi
}

sed -n '2,11s/^# \{0,1\}//p' "$0"

step "collect" $python stages/collect_rollouts.py configs/collect/demo.yaml --output demo/rollouts.hdf5
step "check" $python stages/check_rollouts.py --data.rollouts demo/rollouts.hdf5 --output demo/check
step "video" $python stages/train_video.py configs/video/stage_one.yaml $small --run demo/runs/video

for variant in $variants; do
    from=(--video_run demo/runs/video)
    [ "$variant" != joint ] || from=() # the one that skips stage one
    step "train $variant" $python stages/train_policy.py "configs/policy/$variant.yaml" $small "${from[@]}" --run "demo/runs/$variant"
done

results=() runs=(demo/runs/video)
for variant in $variants; do
    step "evaluate $variant" $python stages/evaluate_policy.py configs/evaluation/demo.yaml \
        --policy "demo/runs/$variant" --cell "$variant" --output "demo/results/$variant.json"
    results+=("demo/results/$variant.json") runs+=("demo/runs/$variant")
done

# The same start states for a policy that was trained for 50 minutes on the whole table; its weights are committed.
step "evaluate longer_run" $python stages/evaluate_policy.py configs/evaluation/demo.yaml \
    --policy checkpoints/pocket_two_stage --cell longer_run --output demo/results/longer_run.json

step "report" $python stages/report.py --output demo/page.html --timings "$timings" \
    --results "${results[@]}" demo/results/longer_run.json --runs "${runs[@]}" --pictures demo/check/sheet.png \
    --notes "The demo narrows the task: the bowl stands within 15 x 20 cm, the plate in one place." \
    "Each policy trained for a few minutes on two CPU cores, all with the same number of steps." \
    "longer_run is not from this run: it is the committed checkpoint of a 50-minute run on the whole table."

printf '\nThe page: %s\n' "$PWD/demo/page.html"
