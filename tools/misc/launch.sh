# shellcheck shell=bash
# Sourced by tools/dist_*.sh and tools/slurm_*.sh, which define usage().

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}

fail() {
    usage >&2
    printf '\n%s\n' "${0##*/}: error: $*" >&2
    exit 2
}

# check_arguments COUNT "$@": answers -h, refuses too few arguments
check_arguments() {
    local count=$1
    shift
    case ${1:-} in -h | --help) usage && exit ;; esac
    [ $# -ge "$count" ] || fail "needs $count arguments, got $#"
}

# check_number NAME VALUE [MINIMUM]
check_number() {
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || [ "$2" -lt "${3:-1}" ]; then
        fail "$1 must be a whole number from ${3:-1} on, got '$2'"
    fi
}

check_file() {
    [ -f "$1" ] || fail "there is no file '$1' in $PWD"
}

check_python() {
    local path
    path=$(command -v "$python") || fail "there is no '$python': activate" \
        'the environment, or set PYTHON=/path/to/python'
    "$python" -c 'import sys; from importlib.util import find_spec
sys.exit(None in map(find_spec, ("torch", "mmba2m")))' ||
        fail "$path lacks torch or mmba2m: activate the environment that" \
            'has them, or set PYTHON=/path/to/python'
}

# launch TOOL PROCESSES ARGUMENT...: torchrun on this machine
launch() {
    local tool=$1 processes=$2 nnodes=${NNODES:-1} rendezvous
    shift 2
    check_number GPUS "$processes"
    check_number NNODES "$nnodes"
    check_number PORT "${PORT:-0}" 0
    if [ "$nnodes" -eq 1 ]; then
        # 0 is any free port: two runs on a machine do not collide
        rendezvous=(--rdzv_backend=c10d --local_addr=127.0.0.1
            --rdzv_endpoint="127.0.0.1:${PORT:-0}")
    else
        check_number NODE_RANK "${NODE_RANK:-}" 0
        [ "$NODE_RANK" -lt "$nnodes" ] || fail "NODE_RANK counts from 0 to" \
            "$((nnodes - 1)) for NNODES=$nnodes, got $NODE_RANK"
        [ -n "${MASTER_ADDR:-}" ] ||
            fail "NNODES=$nnodes needs MASTER_ADDR, the address of machine 0"
        rendezvous=(--node_rank="$NODE_RANK" --master_addr="$MASTER_ADDR"
            --master_port="${PORT:-29500}")
    fi
    check_python
    if ! command -v nvidia-smi >/dev/null; then # torchrun's default is 1
        local cores=$(($(getconf _NPROCESSORS_ONLN) / processes))
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > 1 ? cores : 1))}"
    fi
    exec "$python" -m torch.distributed.run "${rendezvous[@]}" \
        --nnodes="$nnodes" --nproc_per_node="$processes" \
        "$tools/$tool" "$@" --launcher pytorch
}

# Sets gpus_per_node and NNODES from GPUS and GPUS_PER_NODE.
divide_gpus() {
    local gpus=${GPUS:-8}
    check_number GPUS "$gpus"
    gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    check_number GPUS_PER_NODE "$gpus_per_node"
    [ $((gpus % gpus_per_node)) -eq 0 ] ||
        fail "GPUS=$gpus is no multiple of GPUS_PER_NODE=$gpus_per_node"
    export NNODES=$((gpus / gpus_per_node))
}

# launch_slurm PARTITION JOB_NAME SCRIPT ARGUMENT...: SCRIPT, one of dist_*.sh,
# once on each machine
launch_slurm() {
    local partition=$1 job_name=$2 script=$3 cpus=${CPUS_PER_TASK:-5} srun_args
    shift 3
    check_number CPUS_PER_TASK "$cpus"
    command -v srun >/dev/null || fail 'there is no srun on this machine'
    check_python
    read -ra srun_args <<<"${SRUN_ARGS:-}"
    # shellcheck disable=SC2016 # the shell on each machine expands it
    exec srun --partition="$partition" --job-name="$job_name" \
        --nodes="$NNODES" --ntasks="$NNODES" --ntasks-per-node=1 \
        --gres="gpu:$gpus_per_node" \
        --cpus-per-task=$((cpus * gpus_per_node)) --kill-on-bad-exit=1 \
        ${srun_args[@]+"${srun_args[@]}"} \
        bash -c '
            export NODE_RANK=$SLURM_NODEID
            MASTER_ADDR=$(
                scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1
            )
            export MASTER_ADDR PORT=${PORT:-$((20000 + SLURM_JOB_ID % 10000))}
            exec bash "$@"
        ' bash "$tools/$script" "$@"
}
