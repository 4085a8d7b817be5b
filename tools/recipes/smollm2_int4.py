"""smollm2_int4: smollm2 with int4 weights, a scale for every 32 of them (Q4_0).

So small a network loses much by that: of the tokens that it chooses, bfloat16 weights would have chosen two thirds.
"""

from tools.recipes import LanguageModel
from tools.recipes.smollm2 import ENGINE

RECIPE = LanguageModel(parent="smollm2", precision="int4", engine=ENGINE, budget=0.25, same=0.6)
