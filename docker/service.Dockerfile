# The service on a CPU, and the index job: no torch, no compiler, not root, nothing written at run
# time but the store by the index job.
#
#   docker build -f docker/service.Dockerfile -t cairn-service .
#
# The base can be pinned by its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:…
# Behind a mirror or a proxy, pip's own variables can be given as build arguments:
#   --build-arg PIP_INDEX_URL=… --build-arg PIP_CERT=… --network host
# They may hold a password: none of them is left in the image or in its history.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS packages
ARG PIP_INDEX_URL
ARG PIP_CERT
ARG PIP_TRUSTED_HOST
COPY requirements/service.txt docker/trim.sh docker/trim_base.sh /opt/cairn/build/
# The environment gets no pip of its own: the base's pip fills it from outside.
RUN python -m venv --without-pip /opt/cairn \
 && pip --python /opt/cairn/bin/python install \
      --no-cache-dir --disable-pip-version-check --only-binary :all: \
      --require-hashes -r /opt/cairn/build/service.txt \
 && sh /opt/cairn/build/trim.sh /opt/cairn/lib/python3.11/site-packages \
 && sh /opt/cairn/build/trim_base.sh

# The image: what is left, without the layers and build arguments that it was made with.
FROM scratch
COPY --from=packages / /
ENV PATH=/opt/cairn/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /opt/cairn/app
COPY cairn_client cairn_client
COPY embedder embedder
COPY index index
COPY photographs photographs
COPY service service
# Compiled now, since nothing can be written later.
RUN python -m compileall -q . \
 && python -c "import service.app, service.lifecycle.server, index.cli, index.building.build, embedder.runtimes.openvino" \
 && python -m service --help > /dev/null
ENV CAIRN_HOST=0.0.0.0 \
    CAIRN_PORT=8000 \
    CAIRN_STORE=/srv/store \
    CAIRN_EMBEDDER=/srv/embedder
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import http.client, os; port = int(os.environ.get('CAIRN_MANAGEMENT_PORT') or 0) or int(os.environ['CAIRN_PORT']); link = http.client.HTTPConnection('127.0.0.1', port, timeout=4); link.request('GET', '/readyz'); exit(link.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
