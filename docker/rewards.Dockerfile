# Success classifiers on pretrained models: PyTorch with CUDA, open_clip, Hugging Face's transformers. Trains and tests them
# (`etude classifier train | test | adapt`); the robot loads what they wrote.
# Build from the repository's root:  docker compose -f docker/compose.yaml build rewards
# hadolint global ignore=DL3008
#   (versions of Debian packages follow the pinned base image)
FROM python:3.12.12-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends git libegl1 libgl1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1001 etude
WORKDIR /etude
RUN chown etude:etude /etude
USER 1001
COPY --chown=etude:etude requirements requirements
# the versions of the extra "rewards" in pyproject.toml
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir -c requirements/base.txt -r requirements/base.txt \
        torch==2.13.0 torchvision "timm>=1.0.31" "open_clip_torch>=3.3,<4" "transformers>=5,<6" "peft>=0.21,<1" accelerate
COPY --chown=etude:etude . .
# model weights are downloaded once and kept
ENV HF_HOME=/etude/data/models
VOLUME ["/etude/runs", "/etude/data"]
ENTRYPOINT [".venv/bin/python", "-m", "etude"]
CMD ["classifier", "train", "--help"]
