# The laboratory: cairn-train, on CPUs and on NVIDIA GPUs. It is large, since torch's wheel brings
# CUDA along and does not load without it. `compile: true` in a recipe needs a C compiler, which
# is not here.
#
#   docker build -f docker/trainer.Dockerfile -t cairn-trainer .
#
# The base can be pinned by its digest, and pip's own variables can be given: see
# docker/service.Dockerfile.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS packages
ARG PIP_INDEX_URL
ARG PIP_CERT
ARG PIP_TRUSTED_HOST
COPY requirements/train.txt docker/trim_base.sh /opt/cairn/build/
# The environment gets no pip of its own: the base's pip fills it from outside.
RUN python -m venv --without-pip /opt/cairn \
 && pip --python /opt/cairn/bin/python install \
      --no-cache-dir --disable-pip-version-check --only-binary :all: \
      --require-hashes -r /opt/cairn/build/train.txt \
 && sh /opt/cairn/build/trim_base.sh

# The image: what is left, without the layers and build arguments that it was made with.
FROM scratch
COPY --from=packages / /
# USER is asked for by torch, which would otherwise look for a name of a user that has none.
ENV PATH=/opt/cairn/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=cairn
WORKDIR /opt/cairn/app
COPY embedder embedder
COPY index index
COPY photographs photographs
COPY trainer trainer
# Compiled now, since nothing can be written later.
RUN python -m compileall -q . \
 && python -c "import trainer.training.train, trainer.export.export, embedder.runtimes.openvino" \
 && python -m trainer --help > /dev/null
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
ENTRYPOINT ["python", "-m", "trainer"]
