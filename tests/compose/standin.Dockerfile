# Debian's HAProxy and Prometheus, for hosts that cannot pull their images.
ARG BASE
FROM ${BASE} AS packages
RUN apt-get update && apt-get install --yes --no-install-recommends haproxy prometheus

FROM packages AS front

FROM packages AS prometheus
RUN install --directory --owner=nobody --group=nogroup /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
