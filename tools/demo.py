"""The whole way on real parts, in one command: `make demo`, or `python -m tools.demo`.

Trains and exports the models that have no version yet, serves them with the embedded tritonserver, classifies sample
images over HTTP and gRPC, load-tests both protocols and stops. Every figure printed comes from this run; the last
line of stdout is one compact JSON document.
"""

from pathlib import Path

SAMPLES = Path("build/samples")
