#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]

Evaluates with torchrun, one process for each of GPUS GPUs of this machine;
where there is no GPU, with so many processes on the CPU. The metrics are those
of a single process.

Reads NNODES, NODE_RANK, MASTER_ADDR, PORT and PYTHON, see dist_train.sh -h.
END
}

# shellcheck source=misc/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"

check_arguments 3 "$@"
check_number GPUS "$3"
check_file "$1"
launch test.py "$3" "$1" "$2" "${@:4}"
