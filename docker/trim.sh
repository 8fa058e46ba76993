#!/bin/sh
# Deletes from a folder of installed packages what a service never loads: engines for other
# hardware, readers of other model formats, Arrow's network protocols and file systems, headers,
# test suites. What is left is proved by the imports in the Dockerfiles and by
# tests/e2e/compose.sh.
#
#   trim.sh SITE_PACKAGES
set -eu
cd "$1"
rm -rf \
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
  openvino_telemetry openvino_telemetry-*.dist-info
find . -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.pyi' \) -delete
