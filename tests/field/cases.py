"""The networks of the field: where each comes from, and what `tools.new` is told about it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
IMAGE = "FP32[3,64,64]"
NODES = "x:FP32[-1,8],edge_index:INT64[2,-1]=0..7"


@dataclass(frozen=True)
class Case:
    """One network: its family, the function that builds it, and further flags of the command."""

    family: str
    name: str
    source: str
    flags: tuple[str, ...] = ()


TRANSFORMERS = {
    "encoder": "bert roberta distilbert albert electra deberta mpnet modernbert",
    "encoder-decoder": "t5 bart marian pegasus",
    "decoder": "gpt2 llama mistral qwen gemma opt neox mixtral mamba",
    "vision": "vit deit swin convnext resnet dino segformer clip_vision clip",
    "audio": "wav2vec2 hubert whisper spectrogram",
}
FLAGS = {
    # Its loop over the words becomes as many steps as the traced example has.
    "mamba": ("--example-inputs", "input_ids:INT64[16]=0..199"),
    "convnext": ("--example-inputs", IMAGE),
    "resnet": ("--example-inputs", IMAGE),
    "segformer": ("--example-inputs", IMAGE),
    "spectrogram": ("--example-inputs", "FP32[64,32]"),
}
TIMM = (
    "resnet10t", "mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "regnetx_002", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "mixer_s32_224", "levit_128s", "ghostnet_050",
)  # fmt: skip
SEGMENTERS = ("Unet", "UnetPlusPlus", "FPN", "Linknet", "MAnet", "PSPNet", "DeepLabV3Plus", "Segformer")
RECOMMENDERS = {
    "Factors": "user:INT64[]=0..99,item:INT64[]=0..499",
    "NeuralFilter": "user:INT64[]=0..99,item:INT64[]=0..499",
    "DeepFM": "fields:INT64[3]=0..49",
    "Interactions": "dense:FP32[5],categories:INT64[3,2]=0..99",
    "NextItem": "history:INT64[-1]=0..499",
    "Session": "history:INT64[9]=1..499,length:INT64[1]=1..9",
    "Multihot": "FP32[300]=0..5",
}
LAYERS = ("GCNConv", "SAGEConv", "GATConv", "GINConv")


def cases() -> Iterator[Case]:
    """List all networks."""
    for family, names in TRANSFORMERS.items():
        for name in names.split():
            yield Case(f"transformers, {family}", name, f"hugging_face.py:{name}", FLAGS.get(name, ()))
    for name in TIMM:
        sides = {} if "224" in name or name.startswith("levit") else {"--example-inputs": IMAGE}
        small = sides or {"--example-inputs": "FP32[3,224,224]", "--max-batch-size": "4"}
        yield _built("timm", name, "pictures.py:timm_model", {"name": name}, small)
    for name in SEGMENTERS:
        flags = {"--example-inputs": "FP32[3,-1,-1]", "--max-batch-size": "4"}
        encoder = {"encoder": "mit_b0"} if name == "Segformer" else {}
        yield _built("segmentation_models_pytorch", name, "pictures.py:segmenter", {"name": name, **encoder}, flags)
    for name, inputs in RECOMMENDERS.items():
        yield Case("recommenders", name, f"ids.py:{name}", ("--example-inputs", inputs))
    for name in LAYERS:
        yield _built("torch_geometric", name, "ids.py:Graph", {"layer": name}, {"--example-inputs": NODES})
    whole = {"--example-inputs": f"{NODES},batch:INT64[-1]=0..2"}
    yield _built("torch_geometric", "WholeGraph", "ids.py:WholeGraph", {"layer": "GCNConv"}, whole)


def _built(family: str, name: str, source: str, arguments: dict[str, str], flags: dict[str, str]) -> Case:
    given = {"--arguments": json.dumps(arguments), **flags}
    return Case(family, name, source, tuple(text for pair in given.items() for text in pair))
