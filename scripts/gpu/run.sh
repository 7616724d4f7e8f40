#!/usr/bin/env bash
# One command for a machine with a GPU and no network: `bash scripts/gpu/run.sh pretrain|check`.
#
# Runs in a copy of the repository, after `scripts/gpu/prepare.py` has filled runs/gpu (or
# $KIT_FOLDER). Results go to $OUT (default: out/ in that folder). More: docs/gpu.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${1:-}
case "$program" in
  pretrain | check) shift ;;
  *) echo "usage: bash scripts/gpu/run.sh pretrain|check [options]; see docs/gpu.md" >&2; exit 2 ;;
esac

started=$(date +%s)
kit=$(realpath -m "${KIT_FOLDER:-runs/gpu}")
out=${OUT:-$kit/out}
python=${PYTHON:-python3}
mkdir -p "$out"

# What the machine lacks, beside its own packages rather than among them.
if compgen -G "$kit/wheels/*.whl" > /dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --disable-pip-version-check --root-user-action ignore \
    --target "$kit/site" "$kit"/wheels/*.whl
fi
export PYTHONPATH="$PWD/src:$kit/site${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
ulimit -n "$(ulimit -Hn)" 2> /dev/null || true  # tensors of worker processes are open files

exec "$python" "scripts/gpu/$program.py" --kit "$kit" --out "$out" --started "$started" "$@"
