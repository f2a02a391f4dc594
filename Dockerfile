# The environment of `make test`, on a CPU or a CUDA GPU. It was never built where gan is developed, which has no Docker.
#
#   docker build --tag gan . && docker run --rm gan
#   docker build --build-arg BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04 --tag gan-cuda .
#   docker run --rm --gpus all gan-cuda make test-gpu
#   docker run --rm --volume "$PWD/outputs:/gan/outputs" gan gan train trainer.minutes=5
ARG BASE=python:3.12-slim
FROM ${BASE}

# A base without Python gets the system's; make finds the first python3 of PATH, from 3.11 on.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make git \
    && (command -v python3 || apt-get install --yes --no-install-recommends python3 python3-venv) \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /gan
COPY . .
# PyTorch's wheels for Linux bring their own CUDA libraries; a GPU needs its driver, which --gpus passes in.
RUN make .venv/dev
ENV PATH=/gan/.venv/bin:$PATH
CMD ["make", "test"]
