# The built model repository as an image: for the init step of a pod (deploy/kubernetes/components/models-image), which
# copies it, and for KServe (oci://). Build it from the repository's folder:
#
#   docker build --file deploy/docker/models.Dockerfile --tag triton-models:0.1.0 model_repository
ARG COPYING_IMAGE=busybox:1.37.0
FROM ${COPYING_IMAGE}
COPY . /models
USER 1000:1000
