"""Dropout: the rates of the pretrained network, set anew for few rows.

Helps when a network learns few rows by heart (raise `hidden` and `head`), and when a frozen or tiny setup underfits
(lower them). Does nothing for networks without dropout layers, and says so.
"""

from __future__ import annotations

import copy
import logging
from typing import Annotated, Any

from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from hf_smalldata.errors import UserError
from hf_smalldata.technique import ALL_TASKS, Context, Technique

logger = logging.getLogger(__name__)

Rate = Annotated[float, Field(ge=0, lt=1)]

# Where the configs of transformers keep each rate; every field that a config has is set.
FIELDS: dict[str, tuple[str, ...]] = {
    "hidden": ("hidden_dropout_prob", "hidden_dropout", "dropout", "embd_pdrop", "resid_pdrop", "embedding_dropout",
               "mlp_dropout"),
    "attention": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
    "head": ("classifier_dropout", "seq_classif_dropout", "classifier_dropout_prob", "cls_dropout", "final_dropout",
             "drop_rate"),
}  # fmt: skip


class Dropout(Technique):
    """Set dropout rates; None leaves a rate as the checkpoint has it."""

    name = "dropout"
    tasks = ALL_TASKS
    paper = "https://jmlr.org/papers/v15/srivastava14a.html"

    hidden: Rate | None = None  # after embeddings, attention and feed-forward outputs
    attention: Rate | None = None  # of attention weights
    head: Rate | None = None  # before the classifier

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The same weights in a network built from the changed config, so that functional dropout follows too."""
        if not isinstance(model, PreTrainedModel):
            raise UserError(f"dropout: put it before the technique that made the model a {type(model).__name__}")
        config = copy.deepcopy(model.config)
        for part, rate in (("hidden", self.hidden), ("attention", self.attention), ("head", self.head)):
            if rate is not None:
                fields = set_rate(config, part, rate)
                logger.info("dropout: %s = %s", ", ".join(fields), rate)
        changed = type(model)(config)
        if _frozen(model) - _frozen(changed):  # but for what its class freezes, such as Whisper's positions
            raise UserError("dropout: put it before the technique that froze parts of the network")
        changed.load_state_dict(model.state_dict())
        for mine, theirs in zip(changed.parameters(), model.parameters(), strict=True):
            mine.requires_grad_(theirs.requires_grad)
        return changed


def _frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def set_rate(config: Any, part: str, rate: float) -> list[str]:
    """Set every field of a transformers config that holds this rate; timm's live in `model_args`. Returns their names.

    Raises:
        UserError: the config has no such rate.
    """
    if config.model_type == "timm_wrapper":
        if part != "head":
            raise UserError(f"dropout.{part}: timm networks have a rate for the head only; set dropout.head")
        config.model_args = {**(config.model_args or {}), "drop_rate": rate}
        return ["model_args.drop_rate"]
    fields = [field for field in FIELDS[part] if hasattr(config, field)]
    if not fields:
        present = [name for names in FIELDS.values() for name in names if hasattr(config, name)]
        raise UserError(
            f"dropout.{part}: a {config.model_type} config has no such rate; "
            + (f"it has {', '.join(present)}" if present else "it has no dropout at all")
        )
    for field in fields:
        setattr(config, field, rate)
    return fields
