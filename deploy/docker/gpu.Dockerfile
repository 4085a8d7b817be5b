# NVIDIA's container, with what the step image_decode needs besides Python; all other models run in it as it is.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3
FROM ${TRITON_IMAGE}

USER root
# The release that pyproject.toml pins.
RUN pip install --no-cache-dir --quiet pillow==13.0.0
USER triton-server
