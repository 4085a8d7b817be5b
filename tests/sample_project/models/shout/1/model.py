import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Repeats a text in capitals, with as many exclamation marks as the model `scale` makes of its length."""

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()) for request in requests]

    def answer(self, text):
        size = pb_utils.Tensor("X", np.full((1, 2), len(text[0]), np.float32))
        scaled = pb_utils.InferenceRequest(model_name="scale", inputs=[size], requested_output_names=["Y"]).exec()
        if scaled.has_error():
            return pb_utils.InferenceResponse(error=scaled.error())
        marks = int(pb_utils.get_output_tensor_by_name(scaled, "Y").as_numpy()[0, 0])
        loud = np.array([text[0].decode().upper() + "!" * marks], object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("LOUD", loud)])
