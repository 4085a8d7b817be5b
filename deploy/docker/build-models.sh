#!/bin/sh
# What compose's one-shot `build` service runs: train and publish the models that have no version yet.
# A user who may not write would learn it only after the training: say it before, with the values that help.
set -eu

refuse() {
  echo "error: user $(id -u):$(id -g) may not write to $1; $2" >&2
  exit 1
}

for model in model_repository/*/; do
  set -- "$model"[1-9]*
  if [ ! -d "$1" ] && [ ! -w "$model" ]; then
    owner=$(stat --format='PUID=%u PGID=%g' "$model")
    refuse "$model" "set its owner's $owner in the environment or in .env (\`make up\` does it by itself)"
  fi
done
for folder in build data build/* data/*; do
  if [ -d "$folder" ] && [ ! -w "$folder" ]; then
    owner=$(stat --format='PUID=%u PGID=%g' "$folder")
    refuse "$folder" "its volume was filled with $owner: set these again, or remove it with \`docker compose down -v\`"
  fi
done
exec python -m tools.export --missing
