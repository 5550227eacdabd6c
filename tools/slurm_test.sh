#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]

Evaluates as a Slurm job. Reads GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS,
PORT and PYTHON, see slurm_train.sh -h.
END
}

# shellcheck source=misc/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"

check_arguments 4 "$@"
check_file "$3"
divide_gpus
launch_slurm "$1" "$2" dist_test.sh "$3" "$4" "$gpus_per_node" "${@:5}"
