"""The whole way on real parts, in one command: `make demo`, or `python -m tools.demo`.

Trains and exports the models that have no version yet, serves them with the embedded tritonserver, classifies sample
images over HTTP and gRPC, load-tests both protocols and stops. Every figure printed comes from this run; the last
line of stdout is one compact JSON document.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.connection import Connection
from clients.errors import ClientError
from clients.images import image_files, image_spec, load_image, normalise
from tools.repository import RepositoryError, model_names, read_manifest, versions
from tools.tritonserver import HARDWARE, Options, Server, ServerError

SAMPLES = Path("build/samples")
