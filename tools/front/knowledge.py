"""What the door must know of the models behind it, from their configs."""

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

_NONE = "-"


def classless(model: ModelConfig) -> str:
    """A model's line of the map: its outputs that 2.51 must not be asked to classify, which would end it.

    Those are texts, and outputs that may be empty.
    """
    names = [
        output.name
        for output in model.output
        if output.data_type == DataType.TYPE_STRING or min(output.dims, default=0) < 1
    ]
    return f"{model.name} {','.join(names) or _NONE}"


def needs_streams(model: ModelConfig) -> bool:
    """Whether callers of a model need gRPC streams: it answers several times, or a sequence."""
    return bool(model.model_transaction_policy.decoupled or model.HasField("sequence_batching"))
