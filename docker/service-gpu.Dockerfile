# The service on an NVIDIA GPU: torch runs the network, FAISS searches, both with the CUDA that
# their wheels bring. The host needs NVIDIA's driver and container toolkit, nothing else.
#
#   docker build -f docker/service-gpu.Dockerfile -t cairn-service-gpu .
#
# The base can be pinned by its digest, and pip's own variables can be given: see
# docker/service.Dockerfile.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS packages
ARG PIP_INDEX_URL
ARG PIP_CERT
ARG PIP_TRUSTED_HOST
COPY requirements/service-gpu.txt docker/trim.sh docker/trim_base.sh /opt/cairn/build/
# The environment gets no pip of its own: the base's pip fills it from outside.
RUN python -m venv --without-pip /opt/cairn \
 && pip --python /opt/cairn/bin/python install \
      --no-cache-dir --disable-pip-version-check --only-binary :all: \
      --require-hashes -r /opt/cairn/build/service-gpu.txt \
 && sh /opt/cairn/build/trim.sh /opt/cairn/lib/python3.11/site-packages \
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
COPY cairn_client cairn_client
COPY embedder embedder
COPY index index
COPY photographs photographs
COPY service service
# Compiled now, since nothing can be written later. The machine that builds needs no GPU.
RUN python -m compileall -q . \
 && python -c "import service.app, service.lifecycle.server, index.cli, index.search.torch_search, embedder.runtimes.torch_export" \
 && python -c "import faiss; faiss.StandardGpuResources" \
 && python -m service --help > /dev/null
ENV CAIRN_HOST=0.0.0.0 \
    CAIRN_PORT=8000 \
    CAIRN_STORE=/srv/store \
    CAIRN_EMBEDDER=/srv/embedder \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import http.client, os; port = int(os.environ.get('CAIRN_MANAGEMENT_PORT') or 0) or int(os.environ['CAIRN_PORT']); link = http.client.HTTPConnection('127.0.0.1', port, timeout=4); link.request('GET', '/readyz'); exit(link.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
