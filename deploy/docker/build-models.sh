#!/bin/sh
# Run by the `build` service of docker-compose.yml: train and publish the models that have no version yet.
# Volumes keep the owner that first filled them. Check that here, or another user would see a traceback during training.
set -eu

for folder in build data build/* data/*; do
  if [ -d "$folder" ] && [ ! -w "$folder" ]; then
    owner=$(stat --format='PUID=%u PGID=%g' "$folder")
    echo "error: user $(id -u):$(id -g) cannot write to the volume at $folder, which was filled with $owner;" \
      "set these values again, or remove the volume with \`docker compose down --volumes\`" >&2
    exit 1
  fi
done
exec python -m tools.export --missing
