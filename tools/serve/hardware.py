"""Whether models can run on a GPU here; the driver is asked, because importing torch takes seconds."""

import ctypes

from tools.serve.server_error import ServerError

HARDWARE = ("auto", "cpu", "gpu")


def use_gpu(hardware: str) -> bool:
    """Decide whether to serve config.pbtxt as it stands (KIND_GPU) or configs/cpu.pbtxt.

    Raises:
        ServerError: a GPU was asked for and none can be used.
    """
    if hardware == "cpu":
        return False
    missing = why_no_gpu()
    if hardware == "gpu" and missing:
        raise ServerError(f"--hardware gpu: {missing}; use --hardware cpu, or a host with a GPU")
    return missing is None


def why_no_gpu() -> str | None:
    """Explain why models cannot run on a GPU here; None if they can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) is installed"
    devices = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0 or devices.value == 0:
        return "the NVIDIA driver sees no GPU"
    from importlib.metadata import version  # It takes longer to import than `--help` should.

    build = version("torch")
    return f"torch {build} is a CPU build" if build.endswith("+cpu") else None
