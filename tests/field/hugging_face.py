"""transformers by family, small and with random weights: each function returns a network for `tools.new --module`."""

from typing import Any

import transformers
from torch import nn

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 200,
    "max_position_embeddings": 128,
}
SEQUENCES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 200,
    "max_position_embeddings": 128,
}
TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIDE = 32


def _network(kind: str, config: str, **values: Any) -> nn.Module:
    network: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**values))
    return network


def bert() -> nn.Module:
    return _network("BertModel", "BertConfig", **SMALL)


def roberta() -> nn.Module:
    return _network("RobertaForSequenceClassification", "RobertaConfig", **SMALL)


def distilbert() -> nn.Module:
    values = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": 200}
    return _network("DistilBertForTokenClassification", "DistilBertConfig", **values)


def albert() -> nn.Module:
    return _network("AlbertForMaskedLM", "AlbertConfig", **SMALL, embedding_size=16)


def electra() -> nn.Module:
    return _network("ElectraForPreTraining", "ElectraConfig", **SMALL, embedding_size=16)


def deberta() -> nn.Module:
    values = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
    return _network("DebertaV2Model", "DebertaV2Config", **SMALL, **values)


def mpnet() -> nn.Module:
    return _network("MPNetModel", "MPNetConfig", **SMALL)


def modernbert() -> nn.Module:
    tokens = {**TOKENS, "cls_token_id": 1, "sep_token_id": 2}
    return _network("ModernBertForSequenceClassification", "ModernBertConfig", **SMALL, **tokens)


def t5() -> nn.Module:
    values = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16, "vocab_size": 200}
    return _network("T5ForConditionalGeneration", "T5Config", **values)


def bart() -> nn.Module:
    return _network("BartForConditionalGeneration", "BartConfig", **SEQUENCES, **TOKENS)


def marian() -> nn.Module:
    return _network("MarianMTModel", "MarianConfig", **SEQUENCES, **TOKENS, decoder_start_token_id=0)


def pegasus() -> nn.Module:
    return _network("PegasusModel", "PegasusConfig", **SEQUENCES, **TOKENS)


def gpt2() -> nn.Module:
    return _network("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=2, vocab_size=200, n_positions=128)


def llama() -> nn.Module:
    return _network("LlamaForCausalLM", "LlamaConfig", **SMALL)


def mistral() -> nn.Module:
    return _network("MistralForCausalLM", "MistralConfig", **SMALL, num_key_value_heads=1, sliding_window=8)


def qwen() -> nn.Module:
    return _network("Qwen2ForCausalLM", "Qwen2Config", **SMALL, num_key_value_heads=1)


def gemma() -> nn.Module:
    return _network("GemmaForCausalLM", "GemmaConfig", **SMALL, num_key_value_heads=1, head_dim=16)


def opt() -> nn.Module:
    values = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64, "vocab_size": 200}
    return _network("OPTForCausalLM", "OPTConfig", **values, word_embed_proj_dim=32)


def neox() -> nn.Module:
    return _network("GPTNeoXForCausalLM", "GPTNeoXConfig", **SMALL)


def mixtral() -> nn.Module:
    values = {"num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2}
    return _network("MixtralForCausalLM", "MixtralConfig", **SMALL, **values)


def mamba() -> nn.Module:
    return _network("MambaForCausalLM", "MambaConfig", hidden_size=32, num_hidden_layers=2, vocab_size=200)


def vit() -> nn.Module:
    return _network("ViTForImageClassification", "ViTConfig", **SMALL, image_size=SIDE, patch_size=8)


def deit() -> nn.Module:
    return _network("DeiTModel", "DeiTConfig", **SMALL, image_size=SIDE, patch_size=8)


def swin() -> nn.Module:
    values = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 4}
    return _network("SwinModel", "SwinConfig", image_size=SIDE, **values)


def convnext() -> nn.Module:
    values = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    return _network("ConvNextForImageClassification", "ConvNextConfig", **values)


def resnet() -> nn.Module:
    values = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    return _network("ResNetForImageClassification", "ResNetConfig", **values)


def dino() -> nn.Module:
    values = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return _network("Dinov2Model", "Dinov2Config", **values, image_size=SIDE, patch_size=8)


def segformer() -> nn.Module:
    values = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
    return _network("SegformerForSemanticSegmentation", "SegformerConfig", **values, decoder_hidden_size=16)


def clip_vision() -> nn.Module:
    return _network("CLIPVisionModel", "CLIPVisionConfig", **_part(), image_size=SIDE, patch_size=8)


def clip() -> nn.Module:
    vision = {**_part(), "image_size": SIDE, "patch_size": 8}
    text = {**_part(), "vocab_size": 200, "max_position_embeddings": 32, "eos_token_id": 199}
    return _network("CLIPModel", "CLIPConfig", text_config=text, vision_config=vision, projection_dim=16)


def _part() -> dict[str, Any]:
    return {name: SMALL[name] for name in list(SMALL)[:4]}


def wav2vec2() -> nn.Module:
    return _network("Wav2Vec2ForCTC", "Wav2Vec2Config", **_sound())


def hubert() -> nn.Module:
    return _network("HubertModel", "HubertConfig", **_sound())


def _sound() -> dict[str, Any]:
    convolutions = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    return {**_part(), "vocab_size": 32, **convolutions}


def whisper() -> nn.Module:
    values = {name: value for name, value in SEQUENCES.items() if name != "max_position_embeddings"}
    tokens = {**TOKENS, "decoder_start_token_id": 1}
    return _network("WhisperForConditionalGeneration", "WhisperConfig", **values, **tokens, num_mel_bins=8)


def spectrogram() -> nn.Module:
    return _network("ASTForAudioClassification", "ASTConfig", **_part(), max_length=64, num_mel_bins=32)
