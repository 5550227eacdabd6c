#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
usage: dist_train.sh CONFIG GPUS [options of train.py]

Trains with torchrun, one process for each of GPUS GPUs of this machine; where
there is no GPU, with so many processes on the CPU.

On several machines, call it on each of them, with these variables set:
  NNODES       how many machines, by default 1
  NODE_RANK    which of them this is, from 0
  MASTER_ADDR  address of machine 0
  PORT         a free port of machine 0, by default 29500
               (on a single machine, by default any that is free)

PYTHON is the Python to run; by default `python`, which is that of the
environment that is active.
END
}

# shellcheck source=misc/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"

check_arguments 2 "$@"
check_number GPUS "$2"
check_file "$1"
launch train.py "$2" "$1" "${@:3}"
