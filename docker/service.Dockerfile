# The service on a CPU: no torch, no compiler, no pip, not root, nothing written at run time.
#
#   docker build -f docker/service.Dockerfile -t cairn-service .
#
# Behind a mirror or a proxy, pip's own variables can be given as build arguments:
#   --build-arg PIP_INDEX_URL=… --build-arg PIP_CERT=… --network host
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG PIP_INDEX_URL
ARG PIP_CERT
ARG PIP_TRUSTED_HOST
COPY requirements/service.txt /tmp/requirements.txt
# The environment gets no pip of its own: the base's pip fills it from outside.
RUN python -m venv --without-pip /opt/cairn \
 && pip --python /opt/cairn/bin/python install \
      --no-cache-dir --disable-pip-version-check --only-binary :all: \
      --require-hashes -r /tmp/requirements.txt
# Parts of the wheels that a service on a CPU never loads: engines for other hardware, readers of
# other model formats, Arrow's network protocols and file systems, headers, test suites. What is
# left is proved by the imports below and by tests/e2e/compose.sh.
RUN cd /opt/cairn/lib/python3.11/site-packages \
 && rm -rf \
      openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/cache.json \
      openvino/libs/libopenvino_intel_npu_plugin.so \
      openvino/libs/libopenvino_tensorflow_frontend.so.* \
      openvino/libs/libopenvino_tensorflow_lite_frontend.so.* \
      openvino/libs/libopenvino_pytorch_frontend.so.* \
      openvino/libs/libopenvino_paddle_frontend.so.* \
      openvino/libs/libopenvino_jax_frontend.so.* \
      openvino/libs/libopenvino_gguf_frontend.so.* \
      openvino/include openvino/cmake openvino/tools \
      pyarrow/libarrow_flight.so.* pyarrow/_flight.* pyarrow/libarrow_python_flight.* \
      pyarrow/libarrow_s3.so.* pyarrow/_s3fs.* pyarrow/_gcsfs.* pyarrow/_azurefs.* \
      pyarrow/_hdfs.* pyarrow/_orc.* pyarrow/include pyarrow/src pyarrow/tests \
      numpy/_core/include numpy/f2py numpy/distutils \
      faiss/contrib \
 && find . -type d -name tests -prune -exec rm -rf {} + \
 && find . -type f \( -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.pyi' \) -delete
COPY embedder /opt/cairn/app/embedder
COPY index /opt/cairn/app/index
COPY service /opt/cairn/app/service
# Compiled now, since nothing can be written later.
RUN cd /opt/cairn/app \
 && /opt/cairn/bin/python -m compileall -q . \
 && /opt/cairn/bin/python -c "import service.server, index.__main__, embedder.runtimes.openvino" \
 && /opt/cairn/bin/python -m service --help > /dev/null

FROM ${BASE}
COPY --from=dependencies /opt/cairn /opt/cairn
ENV PATH=/opt/cairn/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    CAIRN_HOST=0.0.0.0 \
    CAIRN_PORT=8000 \
    CAIRN_STORE=/srv/store \
    CAIRN_EMBEDDER=/srv/embedder
WORKDIR /opt/cairn/app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['CAIRN_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "service"]
