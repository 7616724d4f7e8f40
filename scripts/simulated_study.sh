#!/usr/bin/env bash
# The worked example of docs/human-study.md: plain GRPO against SARS + TDW, in runs of a study that
# `likewise compare` has trained and evaluated. Raters are simulated: no person votes.
#
#     scripts/simulated_study.sh [STUDY] [OUT] [SEED]
set -euo pipefail

study=${1:-runs/stickers-objectives} out=${2:-runs/people} seed=${3:-3}
python=$(command -v .venv/bin/python || command -v python)

"$python" -m likewise study-people create \
  "naive=$study/runs/naive/seed-$seed" "SARS + TDW=$study/runs/grpo/seed-$seed" \
  --pairs 120 --raters-per-pair 4 --pairs-per-rater 40 --out "$out"
"$python" examples/simulated_raters.py "$out"
"$python" -m likewise study-people report "$out"
"$python" -m likewise study-people export "$out"
