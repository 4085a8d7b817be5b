"""FastAPI: one forward call for each request, on as many worker processes as there are cores.

MODEL_FILE=model.pt INPUT_SHAPE=784 uvicorn tools.bench.peer_servers.fastapi_server:app --workers 2
"""

import os

import numpy as np
import torch
from fastapi import FastAPI, Request, Response

torch.set_num_threads(1)
app = FastAPI()
model = torch.jit.load(os.environ["MODEL_FILE"]).eval()
shape = [int(size) for size in os.environ["INPUT_SHAPE"].split(",")]


@app.post("/infer")
async def infer(request: Request) -> Response:
    """Answer one row of float32 with the first output as float32."""
    row = np.frombuffer(await request.body(), np.float32).reshape(1, *shape)
    with torch.inference_mode():
        result = model(torch.from_numpy(row.copy()))
    logits = result[0] if isinstance(result, tuple) else result
    return Response(logits.numpy().tobytes(), media_type="application/octet-stream")
