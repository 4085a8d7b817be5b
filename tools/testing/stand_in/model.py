"""A model that a function of the test plays: a server loads this file, which passes requests on to the test's process.

It is copied into a repository, so it imports nothing of ours.
"""

import json
import pickle
import socket
from typing import Any

import triton_python_backend_utils as pb_utils

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """One instance; Triton prescribes the name of the class."""

    def initialize(self, args: dict[str, str]) -> None:
        """Find out where the test listens."""
        config = json.loads(args["model_config"])
        self._name, self._address = args["model_name"], config["parameters"]["STAND_IN"]["string_value"]
        self._is_decoupled = pb_utils.using_decoupled_model_transaction_policy(config)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer each request as the function does."""
        responses = [self._responses(request) for request in requests]
        if not self._is_decoupled:
            return [response for (response,) in responses]
        for request, several in zip(requests, responses, strict=True):
            sender, is_final = request.get_response_sender(), False
            for response in several:
                is_final = response.has_error()
                sender.send(response, _FINAL * is_final)
            if not is_final:
                sender.send(flags=_FINAL)
        return None

    def _responses(self, request: Any) -> list[Any]:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            with connection.makefile("rwb") as file:
                pickle.dump((self._name, inputs), file)
                file.flush()
                answers, words = pickle.load(file)
        if words:
            return [pb_utils.InferenceResponse([], pb_utils.TritonError(words))]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])
            for answer in answers
        ]
