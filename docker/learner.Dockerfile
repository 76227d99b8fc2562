# The learner with CUDA JAX; ROS 2 comes from wheels. The page and the simulated robot run in it too: `target: cpu` is the same
# without CUDA, and is what one machine without a GPU uses for everything.
# Build from the repository's root:  docker compose -f docker/compose.yaml build learner
# hadolint global ignore=DL3008
#   (versions of Debian packages follow the pinned base image)
FROM python:3.12.12-slim-bookworm AS cpu

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends \
        cmake g++ git make ninja-build libegl1 libgl1 libopengl0 libgl1-mesa-dri libusb-1.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1001 etude
WORKDIR /etude
RUN chown etude:etude /etude
USER 1001
COPY --chown=etude:etude requirements requirements
ENV _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir -c requirements/base.txt -r requirements/base.txt -r requirements/ros-jazzy.txt \
    && echo wheels > .venv/etude-ros-mode
COPY --chown=etude:etude . .
RUN docker/entrypoint.sh build

VOLUME ["/etude/runs", "/etude/data"]
ENTRYPOINT ["docker/entrypoint.sh"]
CMD ["learner"]

FROM cpu AS cuda
# the same version of JAX as requirements/base.txt, with NVIDIA's libraries from wheels; the host only needs its driver
RUN .venv/bin/pip install --no-cache-dir -c requirements/base.txt "jax[cuda12]==0.10.2"
