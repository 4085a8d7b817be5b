"""Whether models run on a GPU here, asked of the driver itself: torch would take seconds to say it."""

import ctypes
import importlib.metadata

from tools.serve.server_error import ServerError

HARDWARE = ("auto", "cpu", "gpu")


def use_gpu(hardware: str) -> bool:
    """Whether to serve config.pbtxt as it stands (KIND_GPU) instead of configs/cpu.pbtxt.

    Raises:
        ServerError: a GPU is asked for and none can be used.
    """
    if hardware == "cpu":
        return False
    missing = why_no_gpu()
    if hardware == "gpu" and missing:
        raise ServerError(f"--hardware gpu: {missing}; use --hardware cpu, or a host with a GPU")
    return missing is None


def why_no_gpu() -> str | None:
    """The reason why models cannot run on a GPU here, or None when they can; torch is not imported for it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) is installed"
    devices = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0 or devices.value == 0:
        return "the NVIDIA driver sees no GPU"
    build = importlib.metadata.version("torch")
    return f"torch {build} is a CPU build" if build.endswith("+cpu") else None
