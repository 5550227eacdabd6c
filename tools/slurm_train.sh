#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
usage: slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [options of train.py]

Trains as a Slurm job: srun starts torchrun on each machine, which starts one
process for each GPU.
  GPUS           in all, by default 8
  GPUS_PER_NODE  by default 8, or GPUS if fewer
  CPUS_PER_TASK  CPU cores for each GPU, by default 5
  SRUN_ARGS      more options of srun; they have the last word: without GPUs,
                 SRUN_ARGS=--gres=none takes as many processes on the CPU

Also reads PORT and PYTHON, see dist_train.sh -h.
END
}

# shellcheck source=misc/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"

check_arguments 3 "$@"
check_file "$3"
options=("${@:4}")
if [ $# -gt 3 ] && [[ $4 != -* ]]; then
    options=(--work-dir "$4" "${@:5}")
fi
divide_gpus
launch_slurm "$1" "$2" dist_train.sh "$3" "$gpus_per_node" \
    ${options[@]+"${options[@]}"}
