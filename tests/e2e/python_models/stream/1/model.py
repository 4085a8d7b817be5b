"""Behaviours of a decoupled model, as functions of a sender."""

import asyncio
import threading
import time

import numpy as np
import triton_python_backend_utils as pb

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def n(number):
    return pb.InferenceResponse([pb.Tensor("N", np.array([number], np.int32))])


def several(sender):
    for number in range(3):
        sender.send(n(number))
    sender.send(flags=FINAL)


def last_is_final(sender):
    sender.send(n(1))
    sender.send(n(2), FINAL)


def none(sender):
    sender.send(flags=FINAL)


def error_in_the_middle(sender):
    sender.send(n(1))
    sender.send(pb.InferenceResponse(error=pb.TritonError("middle", pb.TritonError.INVALID_ARG)), FINAL)


def raises(sender):
    raise ValueError("before the first")


def raises_later(sender):
    sender.send(n(1))
    raise ValueError("after the first")


def returns_a_list(sender):
    return []


def sends_after_the_end(sender):
    sender.send(n(1), FINAL)
    sender.send(n(2))


def late(sender):
    def run():
        time.sleep(0.05)
        several(sender)

    threading.Thread(target=run).start()


async def awaits(sender):
    await asyncio.sleep(0.01)
    several(sender)


WAYS = {
    "several": several,
    "last_is_final": last_is_final,
    "none": none,
    "late": late,
    "awaits": awaits,
    "error_in_the_middle": error_in_the_middle,
    "raises": raises,
    "raises_later": raises_later,
    "returns_a_list": returns_a_list,
    "sends_after_the_end": sends_after_the_end,
}


class TritonPythonModel:
    def execute(self, requests):
        (request,) = requests
        which = pb.get_input_tensor_by_name(request, "WHICH").as_numpy()[0].decode()
        return WAYS[which](request.get_response_sender())
