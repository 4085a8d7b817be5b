# NVIDIA's container with Pillow, which the step image_decode needs. All other models run in the stock container.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3
FROM ${TRITON_IMAGE}

USER root
# The same release as in pyproject.toml.
RUN pip install --no-cache-dir --quiet pillow==13.0.0
USER triton-server
