#!/usr/bin/env bash
# Study recipes on all that this machine has: a Run at a time, or one for each GPU.
#   scripts/study.sh RECIPE... [KEY=VALUE]...   ACCELERATE_CONFIG=scripts/accelerate/fsdp.yaml gives each Run all GPUs
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,3s/^# *//p' "$0" >&2; exit 2; }
if [ -n "${ACCELERATE_CONFIG:-}" ]; then
  exec accelerate launch --config_file "$ACCELERATE_CONFIG" -m hf_smalldata study "$@"
fi
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" -gt 1 ]; then
  exec hf-smalldata study --jobs "$gpus" "$@"
fi
exec hf-smalldata study "$@"
