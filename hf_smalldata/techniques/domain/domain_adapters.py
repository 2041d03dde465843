"""Domain adapters: each source domain teaches an adapter of its own, and their mean is where the target's rows begin.

Helps when several related domains have labels (shops, hospitals, cameras): what they share adds up in the mean, what is
of one alone shrinks. Costs a training of an adapter for each domain and seed. Does little with one domain, which is
source_then_target with fewer weights; hurts where labels mean other things in some of them.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, ClassVar

import torch
from peft import LoraConfig
from pydantic import PositiveFloat, PositiveInt
from torch import nn
from transformers import PreTrainedModel

from hf_smalldata.errors import UserError
from hf_smalldata.technique import ALL_TASKS, Context, Need, Technique
from hf_smalldata.techniques.domain.plainly import teach
from hf_smalldata.techniques.peft.adapter import adapted, target_names
from hf_smalldata.training.average import Average

logger = logging.getLogger(__name__)


class DomainAdapters(Technique):
    """LoRA adapters, one a domain, of which the low-rank updates and the heads are averaged into the network.

    All start from the same weights. `data.domain` names the column of the domains; each source is one without it.
    """

    name = "domain_adapters"
    tasks = ALL_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"source"})
    fills_head: ClassVar[bool] = True
    paper = "https://arxiv.org/abs/2302.07027"  # AdapterSoup

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    epochs: PositiveFloat = 3.0  # of each domain's rows
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 16

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The network with the mean of what the domains taught; nothing is frozen that was not before."""
        if ctx.source is None:
            raise UserError("domain_adapters: there are no source rows; set data.source")
        if not isinstance(model, PreTrainedModel):
            raise UserError(f"domain_adapters: expected a network without adapters, got {type(model).__name__}; list "
                            "it before lora and the like")  # fmt: skip
        names, mean, rows = target_names(model, "all", self.name), Average(), {}
        domains = ctx.source["domain"][:]
        for domain in dict.fromkeys(domains):
            own = ctx.source.select([at for at, each in enumerate(domains) if each == domain])
            with torch.random.fork_rng():
                torch.manual_seed(ctx.seed)  # all adapters start alike
                config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=names)  # type: ignore[arg-type]
                network: Any = adapted(copy.deepcopy(model), ctx, config)
                teach(network, ctx, own, self.epochs, self.learning_rate, self.batch_size)
            mean.add(network.merge_and_unload().requires_grad_(True))  # their mean is that of the updates
            rows[domain] = len(own)
        mean.put_into(model)
        ctx.facts[self.name] = {"rows": rows}
        logger.info("domain_adapters: the mean of %d adapters", len(rows))
        return model
