"""What a recipe's augmentation makes of its training rows, to look at and to keep, before anything is trained.

With few labels an augmentation that breaks them costs more than it brings, and only a look at its variants tells.
"""

from hf_smalldata.augmentation.family import Family, Tally, Variant
from hf_smalldata.augmentation.rows import Variants, variants

__all__ = ["Family", "Tally", "Variant", "Variants", "variants"]
