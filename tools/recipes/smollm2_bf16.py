"""smollm2_bf16: smollm2 in bfloat16; for OpenVINO in float16, the type of 16 bits that its reader knows."""

from tools.recipes import LanguageModel
from tools.recipes.smollm2 import ENGINE

RECIPE = LanguageModel(parent="smollm2", precision="bf16", engine=ENGINE)
