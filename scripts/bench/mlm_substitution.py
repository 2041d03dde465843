"""Masked-word substitution: sentences a second, all at once against one at a time with every token's logits.

    taskset -c 1 python scripts/bench/mlm_substitution.py [--sentences 512] [--checkpoint FOLDER]

Without a checkpoint it is a BERT of DistilBERT's size (6 blocks, 768 wide, 30,522 tokens) with random weights: as fast
as a trained one. Three ways with the same model and the same gaps: `Filler.fill` on all sentences, `Filler.fill` on
each alone, and what nlpaug does (a forward pass for each gap, of which the head reads all tokens). Sentences are made:
8 to 30 words, one in seven replaced.
"""

from __future__ import annotations

import argparse
import platform
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.augment.filling import Filler, Gapped, batch_of, encode
from hf_smalldata.techniques.augment.words import WORD

WORDS = [f"{a}{b}{c}{d}" for a in "bdfklm" for b in "aeiou" for c in "nrst" for d in "aeiou"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--checkpoint", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        filler = Filler.load(ModelSpec(name=given.checkpoint or like_distilbert(Path(folder))), re.compile(r"(?!)"))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(8, 31))) for _ in range(given.sentences)]
    few = texts[: max(given.sentences // 16, 1)]  # one at a time is slow
    ways: dict[str, tuple[Callable[[list[str]], object], list[str]]] = {
        "all at once": (lambda some: filler.fill(gapped(some), 10, 1.0), texts),
        "each alone": (lambda some: [filler.fill([one], 10, 1.0) for one in gapped(some)], few),
        "a pass a gap": (lambda some: [alone(filler, one) for one in gapped(some)], few),
    }
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rates, clock = {}, time.perf_counter if torch.cuda.is_available() else time.process_time  # the latter: undisturbed
    for name, (way, some) in ways.items():
        way(some[:8])
        started = clock()
        way(some)
        rates[name] = len(some) / (clock() - started)
        print(f"{name:13} {rates[name]:7.1f} sentences/s")
    for name in ("each alone", "a pass a gap"):
        print(f"all at once is {rates['all at once'] / rates[name]:.1f} times as fast as {name}")


def like_distilbert(folder: Path) -> str:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocabulary += [f"w{at}" for at in range(30522 - len(vocabulary))]
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(num_hidden_layers=6)).save_pretrained(folder)
    BertTokenizer({word: at for at, word in enumerate(vocabulary)}, model_max_length=512).save_pretrained(folder)
    return str(folder)


def gapped(texts: list[str]) -> list[Gapped]:
    return [
        Gapped(text, [found.span() for found in WORD.finditer(text)][3::7], np.random.default_rng(at))
        for at, text in enumerate(texts)
    ]


@torch.inference_mode()
def alone(filler: Filler, text: Gapped) -> None:
    for gap in text.gaps:
        encoded = encode(filler.tokenizer, [text._replace(gaps=[gap])])
        batch, masks = batch_of(encoded, [0], filler.tokenizer, filler.model.device)
        filler.model(**batch).logits[masks].topk(11).indices.tolist()


if __name__ == "__main__":
    main()
