"""Studies: recipes over seeds, label budgets and folds on the same rows, and what they say together."""

from hf_smalldata.study.engine import study
from hf_smalldata.study.store import Study

__all__ = ["Study", "study"]
