"""A language model of random weights: what the suite exports and serves wherever it needs no real language.

It writes ASCII without sense and without end, because no token that is anything else is ever the most likely one.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.contract import read_contract
from tools.export.publication import Evidence, publish
from tools.language.folder import fill
from tools.language.proof import held_out, questions
from tools.language.source import find_weights
from tools.recipes import LanguageModel
from tools.recipes.smollm2 import ENGINE
from tools.repository import REPOSITORY, ROOT, read_config, versions
from tools.torchvision_import import make_importable

MODEL = "smollm2"
TEMPLATE = read_config(MODEL).parameters["CHAT_TEMPLATE"].string_value
# Of random weights, many tokens are about as likely as each other, and quantization chooses other ones.
RECIPE = LanguageModel(budget=0.2, same=0.75)
# In float32 an answer does not depend on what else is in its batch.
_SERVED = f"""from tools.recipes import LanguageModel

ENGINE = {ENGINE | {"dtype": "float32"}}
RECIPE = LanguageModel(engine=ENGINE, budget={RECIPE.budget}, same={RECIPE.same})
"""
# Layers that change next to nothing, for the pace of a larger network: of two layers, an answer would be over before
# a test has looked at it.
_IDLE_LAYERS = 6
_SPECIAL = ("<|im_start|>", "<|im_end|>")
# As Llama 3 has it: the tokenizer puts the first token, and positions are scaled.
LIKE_LLAMA_3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
LIKE_LLAMA_3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
_TEMPLATE_LIKE_LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
# One token each, as load tests want them.
_WORDS = " time year people way day man thing woman life child world school state family student group country problem"


def write_tiny(
    folder: Path, seed: int = 0, idle_layers: int = 0, kind: str = "Llama", rope: dict[str, Any] | None = None
) -> Path:
    """A network like Llama's in Hugging Face's form: random weights, and a tokenizer of the held-out text."""
    import torch

    make_importable()
    import transformers

    tokenizer = _tokenizer(puts_first=rope is not None)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(
        **({"rope_parameters": rope} if rope else {}),
        **({"sliding_window": None} if kind == "Mistral" else {}),
        **{"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": True},
        **{"num_hidden_layers": 2 + idle_layers, "max_position_embeddings": 8192},
        # Of the usual size, all answers would be about as likely as each other.
        initializer_range=0.3,
    )
    network = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for layer in network.model.layers[2:]:
            layer.self_attn.o_proj.weight *= 0.01
            layer.mlp.down_proj.weight *= 0.01
        odd = [number for token, number in tokenizer.get_vocab().items() if not _is_plain(token)]
        network.get_input_embeddings().weight[odd] = 0
    network.to(torch.bfloat16).save_pretrained(folder)
    (folder / "LICENSE").write_text("\nApache License 2.0\n")
    return folder


def _tokenizer(puts_first: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=768, special_tokens=list(_SPECIAL), initial_alphabet=alphabet)
    tokenizer.train_from_iterator([held_out(), *questions(), 50 * _WORDS], trainer)
    if puts_first:
        tokenizer.post_processor = processors.TemplateProcessing(f"{_SPECIAL[0]} $A", None, [(_SPECIAL[0], 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=_SPECIAL[0], eos_token=_SPECIAL[1])
    fast.chat_template = _TEMPLATE_LIKE_LLAMA_3 if puts_first else TEMPLATE
    return fast


def _is_plain(token: str) -> bool:
    """Whether it is printable ASCII, blanks included; in a vocabulary, other bytes are letters beyond that."""
    return token not in _SPECIAL and token.replace("Ġ", "").replace("Ċ", "").isascii()


def write_configs(models: Path, *names: str) -> Path:
    """A repository of language models without versions."""
    for name in names:
        (models / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name / "config.pbtxt", models / name / "config.pbtxt")
    return models


def publish_tiny(name: str, recipe: LanguageModel, weights: Path, models: Path) -> dict[str, Any]:
    """Publish a version of a model as `tools.export` does; returns its manifest."""
    source = find_weights(name, recipe, str(weights), models)

    def write(folder: Path) -> Evidence:
        return Evidence(language=fill(read_contract(name, models), recipe, source, 1, folder).document())

    return publish(name, write, models).document()


def served_tiny(models: Path) -> Path:
    """A repository that `tools.export` filled from weights and a recipe; who asks for the same one makes it once."""
    models.mkdir(parents=True, exist_ok=True)
    with open(models.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not versions(MODEL, models):
            weights = write_tiny(models.with_suffix(".weights"), idle_layers=_IDLE_LAYERS)
            clone = write_clone(models.with_suffix(".clone"))
            (clone / "tools" / "recipes" / f"{MODEL}.py").write_text(_SERVED)
            line = (sys.executable, "-m", "tools.export", MODEL, "--weights", weights, "--repository", models)
            done = subprocess.run(line, cwd=clone, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    return models


def write_clone(folder: Path) -> Path:
    """The code that commands consist of, in a place where recipes may be written."""
    for room in ("clients", "loadtest", "tools"):
        # Python renames files of such names while another process compiles.
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("*.pyc.*"))
    return folder
