"""The doctor: what is wrong with labelled rows, found before anything is trained on them.

With fifty test rows, three that are training rows as well are worth more than most techniques. So the same examination
runs as a command and before every training. It reads rows and never a model's predictions: labels that only a model
can doubt are `evaluation.label_errors`.
"""

from hf_smalldata.doctor.examination import examine
from hf_smalldata.doctor.findings import Finding, Level, Report
from hf_smalldata.doctor.lengths import Lengths, lengths_of

__all__ = ["Finding", "Lengths", "Level", "Report", "examine", "lengths_of"]
