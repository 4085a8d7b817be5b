#!/bin/sh
# Run by the `build` service of docker-compose.yml: train and publish the models that have no version yet, and write the
# configuration of the front door.
# Volumes keep the owner that first filled them. Check that here, or another user would see a traceback during training.
set -eu

for folder in build data front build/* data/*; do
  if [ -d "$folder" ] && [ ! -w "$folder" ]; then
    owner=$(stat --format='PUID=%u PGID=%g' "$folder")
    echo "error: user $(id -u):$(id -g) cannot write to the volume at $folder, which was filled with $owner;" \
      "set these values again, or remove the volume with \`docker compose down --volumes\`" >&2
    exit 1
  fi
done
python -m tools.export --missing
# The two replicas of tools.serve, and the ports of their agents, which pass on what the watchdog has found; NVIDIA's
# container is one server, in the first one's place, and has no agent.
# shellcheck disable=SC2086  # Options, not one word.
exec python -m tools.front config front --front 0.0.0.0:8443 --operator 0.0.0.0:8004 \
  --backend replica0=triton:8000,triton:8001,8005 --backend replica1=triton:8010,triton:8011,8015 ${FRONT_OPTIONS:-}
