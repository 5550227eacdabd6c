#!/usr/bin/env bash
# Create the virtual environment of a stack, or bring it up to date:
#
#     [PYTHON=python3.11] tools/misc/setup_env.sh [onedl|openmmlab] [EXTRA...]
#
# .venv (onedl) or .venv-openmmlab gets what training needs, as pinned in
# requirements/, mmcv with its ops, built once per torch and Python, and this
# package in editable mode; then what requirements/EXTRA.txt lists. With 'ops'
# for EXTRA it ends when mmcv is in. Where uv is installed it is faster.
# Interrupt it at will: the next call goes on from the last finished stage, and
# does nothing when there is nothing to do.
set -euo pipefail

say() { printf '%s\n' "setup: [$SECONDS s] $*"; }
die() { printf '%s\n' "setup: error: $*" >&2; exit 1; }

stack=${1:-onedl}
extras=" ${*:2} " # with spaces around each
case $stack in
    onedl) name=.venv mmcv=onedl-mmcv versions='3.10 3.11 3.12' ;;
    openmmlab) name=.venv-openmmlab mmcv=mmcv versions='3.10 3.11' ;;
    *) die "unknown STACK '$stack': choose onedl or openmmlab" ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
until_ops=
[ "$extras" != ' ops ' ] || until_ops=1 extras=
for extra in $extras; do
    [ -f "requirements/$extra.txt" ] || die "no requirements/$extra.txt"
done
root=$PWD
venv=$root/$name
python=$venv/bin/python
pins=requirements/$stack.txt
cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}/mmba2m
log=$cache/setup-$stack.log
# What would let pip or Python look elsewhere than in the new environment.
unset PYTHONPATH PYTHONHOME
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

# State lives in the environment itself, as files .mmba2m-STATE: 'unfinished'
# while pip is at work (its contents are then worth nothing), 'packages' once
# the pinned set is in, 'ready' when this package is, EXTRA when that is, all
# holding what they are true of.
pinned() { sed -nE "s/^$1===?([^ ;]+).*/\1/p" "$pins"; }
minor() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
    2>/dev/null; }

find_python() { # sets base, version
    local tried=''
    for base in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.10
    do
        # A shim of pyenv is there even where no Python is behind it.
        if version=$(minor "$base"); then
            case " $versions " in *" $version "*) return ;; esac
            tried+="$base is $version, "
        elif [ "$base" = "${PYTHON:-}" ]; then
            tried+="$base does not run, "
        fi
        [ -z "${PYTHON:-}" ] || break
    done
    tried=${tried%, }
    die "the $stack stack needs Python ${versions%% *} to ${versions##* }," \
        "but ${tried:-there is none}: install one or set" \
        "PYTHON=/path/to/python${versions##* }"
}

check_venv_module() {
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$base cannot create virtual environments (no ensurepip):" \
            "install its venv package, e.g. apt install python$version-venv"
}

check_compiler() {
    local headers
    echo '#include <optional>' |
        "${CXX:-c++}" -std=c++17 -fsyntax-only -x c++ - 2>/dev/null ||
        die "no C++17 compiler (${CXX:-c++}), which mmcv's ops need:" \
            "install one, e.g. apt install g++, or set CXX"
    headers=$("$base" -c \
        'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$headers/Python.h" ] ||
        die "Python.h is not in $headers: install the headers of Python," \
            "e.g. apt install python$version-dev"
}

find_accelerator() { # sets accelerator; without the right nvcc it is the CPU
    local cuda nvcc=${CUDA_HOME:-/usr/local/cuda}/bin/nvcc
    accelerator=cpu
    [ "${FORCE_CUDA:-}" = 1 ] || nvidia-smi -L >/dev/null 2>&1 || return 0
    cuda=$(pinned 'nvidia-cuda-runtime[-cu12]*')
    [ -x "$nvcc" ] || nvcc=nvcc
    if [ -n "$(wheels=${wheels}cuda cached_wheel)" ] ||
        "$nvcc" --version 2>/dev/null | grep -q "release ${cuda%%.*}\."; then
        accelerator=cuda
    else
        say "note: no nvcc of CUDA ${cuda%%.*} for the GPU: mmcv's ops are" \
            'built for the CPU only; run with CUDA_VISIBLE_DEVICES=-1'
    fi
}

pip_failed() { # says in one line what $tmp/err says in many
    if grep -qi 'no space left' "$tmp/err"; then
        die "the disk is full: make room and run this again ($log)"
    elif grep -qiE 'connection broken|timed out|max retries|ssl cert' \
        "$tmp/err"; then
        die 'pip cannot reach its package index: connect to the network or' \
            "set pip's index-url or proxy, then run this again ($log)"
    fi
    die "$1: $(grep -m1 -E '^ERROR|error: ' "$tmp/err" ||
        tail -n1 "$tmp/err") (all of it in $log)"
}

pip_install() {
    local code=0
    # uv does not read pip's settings: where it fails, pip may not
    ! command -v uv >/dev/null ||
        ! uv pip install --python "$python" "$@" >>"$log" 2>&1 || return 0
    "$python" -m pip --log "$log" install "$@" 2>"$tmp/err" || code=$?
    [ "$code" = 0 ] && return
    # When pip fails by itself it leaves every package whole.
    [ "$code" -gt 128 ] || rm -f "$venv/.mmba2m-unfinished"
    pip_failed 'pip failed'
}

create_venv() {
    say "stage 1/4: $name with Python $version"
    fresh=1
    mkdir "$venv"
    touch "$venv/.mmba2m-unfinished"
    "$base" -m venv "$venv" >"$log" 2>&1 ||
        die "$base -m venv failed: $(tail -n1 "$log") (all of it in $log)"
}

install_packages() {
    say "stage 2/4: packages of requirements/$stack.in"
    touch "$venv/.mmba2m-unfinished"
    rm -f "$venv/.mmba2m-packages" "$venv/.mmba2m-ready"
    # First what builds the others; it also shows at once whether pip works.
    grep -E '^(pip|setuptools|wheel|ninja)==' "$pins" >"$tmp/build.txt"
    PIP_DEFAULT_TIMEOUT=15 PIP_RETRIES=2 \
        pip_install --quiet -r "$tmp/build.txt"
    grep -v "^$mmcv==" "requirements/$stack.in" >"$tmp/packages.txt"
    pip_install --no-build-isolation -c "$pins" -r "$tmp/packages.txt" \
        -r requirements/runtime.txt
    # Where there is no libGL, as on most servers, the headless build works.
    if ! "$python" -c 'import cv2' 2>/dev/null; then
        pip_install --quiet --no-deps --force-reinstall \
            "opencv-python-headless==$(pinned opencv-python)"
    fi
    cp "$pins" "$venv/.mmba2m-packages"
    rm "$venv/.mmba2m-unfinished"
    fresh=
}

ops_work() {
    "$python" - "$mmcv" "$(pinned "$mmcv")" >/dev/null 2>&1 <<'PY'
import sys
from importlib.metadata import version
import mmcv.ops
sys.exit(version(sys.argv[1]) != sys.argv[2])
PY
}

cached_wheel() {
    compgen -G "$wheels/${mmcv/-/_}-$(pinned "$mmcv")-$tag-*.whl"
}

build_ops() { # leaves the wheel in $wheels, all of it or nothing
    local cuda=0 gpus='' jobs=${MAX_JOBS:-$(nproc)} cflags='-g0 -O2'
    check_compiler
    [ "$accelerator" = cpu ] || cuda=1 gpus=${CUDA_VISIBLE_DEVICES-0}
    say "stage 3/4: mmcv's ops for the $accelerator, with $jobs jobs (about" \
        "5 minutes on two cores; $log grows meanwhile)"
    building=$(mktemp -d "$cache/build.XXXXXX")
    if CFLAGS=$cflags "$python" tools/misc/precompile_header.py "$tmp" \
        >>"$log" 2>&1; then
        cflags+=' -include torch_types.h'
    fi
    # No cache of pip: it would hand out a wheel built for another torch.
    CFLAGS=$cflags CPATH=$tmp${CPATH:+:$CPATH} MMCV_WITH_OPS=1 \
        MAX_JOBS=$jobs FORCE_CUDA=$cuda CUDA_VISIBLE_DEVICES=$gpus \
        PATH=$venv/bin:$PATH \
        "$python" -m pip wheel -v --no-cache-dir --no-deps \
        --no-build-isolation --no-binary "$mmcv" -w "$building" \
        "$mmcv==$(pinned "$mmcv")" 2>&1 | tee "$tmp/err" >>"$log" ||
        pip_failed "mmcv's ops did not build"
    mkdir -p "$wheels"
    mv "$building"/*.whl "$wheels/"
}

extra_state() { cat "$pins" "requirements/$1.txt" | cksum; }

missing_extras() {
    local extra
    for extra in $extras; do
        [ "$(cat "$venv/.mmba2m-$extra" 2>/dev/null)" = \
            "$(extra_state "$extra")" ] || echo "$extra"
    done
}

install_extras() {
    local extra missing files=()
    missing=$(missing_extras)
    [ -n "$missing" ] || return 0
    say "packages for" $missing
    for extra in $missing; do files+=(-r "requirements/$extra.txt"); done
    pip_install --quiet --no-build-isolation -c "$pins" "${files[@]}"
    for extra in $missing; do
        extra_state "$extra" >"$venv/.mmba2m-$extra"
    done
}

clean_up() {
    rm -rf "$tmp" "$building"
    [ -z "$fresh" ] || rm -rf "$venv"
}

is_ready() { # sets base, version, ready
    base=$python
    if [ -n "${PYTHON:-}" ] || ! version=$(minor "$python"); then
        find_python
    fi
    ready="Python $version in $root with $(cat "$pins" setup.py | cksum)"
    [ -x "$python" ] && [ ! -e "$venv/.mmba2m-unfinished" ] &&
        [ "$(cat "$venv/.mmba2m-ready" 2>/dev/null)" = "$ready" ] &&
        [ -z "$(missing_extras)" ]
}

# First what changes nothing: is there anything to do, and can it be done.
! is_ready || exit 0

# A folder that others can write to could hold a wheel of theirs.
[ "$cache" != /mmba2m ] ||
    die 'HOME is not set: set it, or XDG_CACHE_HOME to a folder of your own'
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
    die "cannot write to $cache: set XDG_CACHE_HOME to a writable folder"
if command -v flock >/dev/null; then # two at once would tread on each other
    exec 9>"$cache/setup.lock"
    flock -n 9 || { say 'waiting for another setup to end'; flock 9; }
    ! is_ready || exit 0
fi

tmp='' building='' fresh=''
trap clean_up EXIT
trap 'echo "setup: interrupted; run this again to go on" >&2; exit 130' \
    INT TERM HUP
tmp=$(mktemp -d)

if [ -e "$venv/.mmba2m-unfinished" ]; then
    say "removing $name, which is unfinished"
    rm -rf "$venv"
    find_python
elif [ -d "$venv" ] && [ "$(minor "$python")" != "$version" ]; then
    die "$name is not of Python $version: remove it or unset PYTHON"
fi
case " $versions " in *" $version "*) ;; *)
    die "$name is of Python $version, not of ${versions// /, }: remove it" ;;
esac

tag=cp${version/./}
wheels=$cache/wheels/$(pinned torch)-$tag-$(uname -m)-
find_accelerator
wheels+=$accelerator
if [ ! -d "$venv" ]; then
    minutes=3
    cached_wheel >/dev/null || minutes=8
    say "the $stack stack in $name takes about $minutes minutes on two" \
        'cores, 6 GB of disk and 3 GB of downloads'
    check_venv_module
    cached_wheel >/dev/null || check_compiler
    create_venv
fi
: >"$log"
cmp -s "$pins" "$venv/.mmba2m-packages" || install_packages
if ! ops_work; then
    cached_wheel >/dev/null || build_ops
    say "stage 3/4: mmcv's ops from $wheels"
    pip_install --quiet --no-deps --force-reinstall "$(cached_wheel)"
    ops_work || die "mmcv's ops do not load: try $python -c 'import mmcv.ops'"
fi
[ -z "$until_ops" ] || exit 0
if [ "$(cat "$venv/.mmba2m-ready" 2>/dev/null)" != "$ready" ]; then
    say 'stage 4/4: this package'
    pip_install --quiet --no-deps --no-build-isolation -e .
    echo "$ready" >"$venv/.mmba2m-ready"
fi
install_extras
say "$name is ready"
