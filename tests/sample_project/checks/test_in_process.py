"""The same files without a server, or with one where --triton-real is given."""

import numpy as np
import pytest


def test_scale(triton_python_model, triton_error):
    model = triton_python_model("models/scale/1/model.py")
    assert model.infer(np.array([[1, 2]], np.float32))["Y"].tolist() == [[3, 6]]
    assert len(model.infer_together(*[np.ones((rows, 2), np.float32) for rows in (1, 2, 3)])) == 3
    with pytest.raises(triton_error, match="X must be finite"):
        model.infer(np.array([[1, np.inf]], np.float32))


def test_shout(triton_python_model, triton_error):
    asked = []

    def scale(inputs):
        asked.append(inputs["X"])
        if inputs["X"].max() > 5:
            raise ValueError("too long")
        return {"Y": inputs["X"]}

    model = triton_python_model("models/shout/1/model.py", models={"scale": scale})
    assert model.infer(np.array(["hey"], object))["LOUD"].tolist() == [b"HEY!!!"]
    assert asked[0].tolist() == [[3, 3]]
    with pytest.raises(triton_error, match="too long"):
        model.infer(np.array(["too long"], object))


def test_another_config(triton_python_model):
    config = """
        input { name: "X" data_type: TYPE_FP32 dims: [ 2 ] }
        output { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] }
        backend: "python"
        parameters { key: "FACTOR" value { string_value: "0.5" } }
    """
    model = triton_python_model("models/scale/1/model.py", config=config)
    assert model.infer(np.array([4, 8], np.float32))["Y"].tolist() == [2, 4]
