# The stack onedl for GPUs:
#
#     docker build -t mmba2m .
#     docker run --rm -it --gpus all --shm-size 8g mmba2m
#
# mmcv's ops are built in a stage of their own, again only when what they are
# built from changes, for GPUs from Turing on.
ARG CUDA=13.0.2
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS ops
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ make python3-dev python3-venv
ENV XDG_CACHE_HOME=/cache FORCE_CUDA=1 \
    TORCH_CUDA_ARCH_LIST="7.5 8.0 8.6 8.9 9.0 10.0 12.0+PTX"
WORKDIR /mmba2m
COPY setup.py ./
COPY requirements requirements
COPY tools/misc tools/misc
RUN --mount=type=cache,target=/cache/pip bash tools/misc/setup_env.sh onedl ops

FROM nvidia/cuda:${CUDA}-base-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends \
    git make python3-venv && rm -rf /var/lib/apt/lists/*
ENV XDG_CACHE_HOME=/cache FORCE_CUDA=1 PATH=/mmba2m/.venv/bin:$PATH
WORKDIR /mmba2m
COPY --from=ops /cache/mmba2m/wheels /cache/mmba2m/wheels
COPY . .
RUN --mount=type=cache,target=/cache/pip make env
CMD ["bash"]
