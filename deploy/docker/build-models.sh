#!/bin/sh
# What compose's one-shot `build` service runs: train and publish the models that have no version yet.
# Its volumes keep the owner that first filled them; another would learn it only from a traceback in the training.
set -eu

for folder in build data build/* data/*; do
  if [ -d "$folder" ] && [ ! -w "$folder" ]; then
    owner=$(stat --format='PUID=%u PGID=%g' "$folder")
    echo "error: user $(id -u):$(id -g) may not write to the volume at $folder, which was filled with $owner;" \
      "set these again, or remove it with \`docker compose down --volumes\`" >&2
    exit 1
  fi
done
exec python -m tools.export --missing
