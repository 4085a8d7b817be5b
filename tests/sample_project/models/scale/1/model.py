import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Multiplies by a factor from the config; refuses what is not finite."""

    def initialize(self, args):
        self.factor = np.float32(json.loads(args["model_config"])["parameters"]["FACTOR"]["string_value"])

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, x):
        if not np.isfinite(x).all():
            pb_utils.Logger.log_warn("somebody sent what is not finite")
            error = pb_utils.TritonError("X must be finite", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x * self.factor)])
