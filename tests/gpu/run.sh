#!/bin/sh
# All checks that need a GPU, in one run of a few minutes that needs no network: what `make test-gpu` calls.
#
#   tests/gpu/run.sh                 with the environment of `make setup`
#   tests/gpu/run.sh WHEELS          on a host whose python3 (3.11 or 3.12) has torch's CUDA build: WHEELS is a folder of
#                                    the other packages' wheels, which a host with a network fills beforehand with
#                                    `pip download --no-deps --dest WHEELS nvidia-pytriton==0.7.0 'tritonclient[all]' …`
#   DEVICE=cpu tests/gpu/run.sh      a rehearsal without a GPU
#
# Besides torch it needs a C++20 compiler. The figures go to build/gpu.json.
set -eu
cd "$(dirname "$0")/../.."
python=.venv/bin/python
if [ $# -gt 0 ]; then
  python=build/gpu-venv/bin/python
  "${PYTHON:-python3}" -m venv --clear --system-site-packages build/gpu-venv
  "$python" -m pip install --quiet --no-index --no-deps "$1"/*.whl
fi
if [ "${DEVICE:-cuda:0}" != cpu ] && ! "$python" -c \
  'from tools.serve.hardware import why_no_gpu; missing = why_no_gpu(); raise SystemExit(missing and f"error: {missing}")'; then
  exit 2
fi
exec "$python" -m pytest tests/gpu -p no:cacheprovider -s --timeout 540
