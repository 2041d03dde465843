#!/usr/bin/env bash
# Train a recipe on all that this machine has: one process, or one for each GPU.
#   scripts/train.sh RECIPE [KEY=VALUE]...   ACCELERATE_CONFIG=scripts/accelerate/fsdp.yaml for another setting
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,3s/^# *//p' "$0" >&2; exit 2; }
if [ -n "${ACCELERATE_CONFIG:-}" ]; then
  exec accelerate launch --config_file "$ACCELERATE_CONFIG" -m hf_smalldata train "$@"
fi
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" -gt 1 ]; then
  exec accelerate launch --multi_gpu --num_processes "$gpus" -m hf_smalldata train "$@"
fi
exec hf-smalldata train "$@"
