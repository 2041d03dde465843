"""A small BERT for sequences from scratch, by masked-language modelling on unlabelled sequences.

    python scripts/pretrain_sequences.py FILE... --output FOLDER [--k 6] [--layers 4] [--width 128] [--epochs 20]

For sequences that no checkpoint at hand knows. The folder is an ordinary model: give it as `model.name` to a recipe of
sequence-classification. Labels in the files are not read, but rows are: give it training rows and unlabelled ones,
never those of a test. A tenth of the rows is held out; the loss on it is printed before and after.

Thousands of sequences are few here. With no more than the labelled rows themselves, expect no more than from training
from scratch, and compare with the k-mer baseline that every Run reports.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_smalldata.data.files import read_table
from hf_smalldata.data.modality import get_modality
from hf_smalldata.data.sequences import ALPHABETS, UNKNOWN, Alphabet, clean, guess_alphabet
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError, listed
from hf_smalldata.tasks.sequence import SequenceClassification

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HELD_OUT = 0.1
HEAD_WIDTH = 32  # features of an attention head
LONGEST_K = 6  # 4^6 words are as many as a small body can learn vectors for


class SpanMasking(DataCollatorForLanguageModeling):
    """Masks runs of k tokens: a k-mer alone would be read off its neighbours, which hold all its letters but none less.

    Source: DNABERT, https://doi.org/10.1093/bioinformatics/btab083. Departure: every chosen token becomes [MASK]. One
    in ten left as it is, as in BERT, would tell the letters of the whole run.
    """

    span: int = 1  # tokens

    def torch_mask_tokens(
        self, inputs: Tensor, special_tokens_mask: Any = None, offset_mapping: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Inputs and labels (B, T); tokens that are not masked have the label -100."""
        chance = 1 - (1 - self.mlm_probability) ** (1 / self.span)  # of a run to begin, for the share wanted of tokens
        begins = torch.rand(inputs.shape, generator=self.generator) < chance
        masked = sum(torch.roll(begins, shift, dims=1) for shift in range(self.span)) > 0
        special = torch.isin(inputs, torch.tensor(self.tokenizer.all_special_ids))
        masked &= ~special
        return inputs.masked_fill(masked, self.tokenizer.mask_token_id), inputs.masked_fill(~masked, -100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, pretrain, save."""
    options = parse(arguments)
    set_seed(options.seed)
    sequences, alphabet = read(options.files, options.column, options.alphabet)
    if options.k > 1 and alphabet == "protein":
        raise SystemExit("--k: proteins are spelled by letter; give --k 1")
    tokenizer = make_tokenizer(alphabet, options.k, options.max_length)
    task = SequenceClassification()
    rows = Dataset.from_dict({"id": [str(at) for at in range(len(sequences))], "sequence": sequences})
    held_out, train = (
        [{"input_ids": each["input_ids"]} for each in task.encode(task.cut(part, tokenizer), tokenizer)]
        for part in _split(rows, options.seed)
    )
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=options.width, num_hidden_layers=options.layers,
            num_attention_heads=max(1, options.width // HEAD_WIDTH), intermediate_size=4 * options.width,
            max_position_embeddings=options.max_length, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    masking = SpanMasking(tokenizer, mlm_probability=options.masked, seed=options.seed)
    masking.span = options.k
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(options.output), num_train_epochs=options.epochs, learning_rate=options.learning_rate,
            per_device_train_batch_size=options.batch_size, per_device_eval_batch_size=options.batch_size,
            warmup_steps=0.1, weight_decay=0.01, seed=options.seed, save_strategy="no", logging_strategy="no",
            report_to="none", remove_unused_columns=False, dataloader_pin_memory=torch.cuda.is_available(),
        ),
        data_collator=masking, train_dataset=train, eval_dataset=held_out,
    )  # fmt: skip
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(sequences)} sequences of {alphabet}, {size / 1e6:.1f} million parameters, saved in {options.output}")
    chance = frequency_loss(train, held_out, len(tokenizer))
    print(
        f"loss on held-out rows: {before:.3f} before, {after:.3f} after, {chance:.3f} by the tokens' frequencies alone"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="csv, jsonl, parquet or FASTA")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--column", help="of the sequences; found by name when not given")
    parser.add_argument("--alphabet", choices=list(ALPHABETS), help="found when not given")
    parser.add_argument("--k", type=int, default=1, choices=range(1, LONGEST_K + 1), help="letters of a word")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128, help=f"features, a multiple of {HEAD_WIDTH}")
    parser.add_argument("--max-length", type=int, default=512, help="tokens; longer sequences are cut into windows")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--masked", type=float, default=0.15, help="share of tokens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.output.exists():
        parser.error(f"--output: {options.output} exists; name a new folder")
    if options.width % HEAD_WIDTH:
        parser.error(f"--width: expected a multiple of {HEAD_WIDTH}, got {options.width}")
    return options


def read(files: Sequence[Path], column: str | None, alphabet: Alphabet | None) -> tuple[list[str], Alphabet]:
    """The different sequences of some files, each once, and their alphabet.

    Raises:
        UserError: no column of sequences, or letters of no alphabet.
    """
    names = [column] if column else [name for tier in get_modality("sequence").input_names for name in tier]
    found: list[str] = []
    ids: list[str] = []
    for file in files:
        table = read_table(file, DataSpec(train=str(file)), "sequence")
        used = next((name for name in names if name in table.columns), None)
        if used is None:
            raise UserError(f"{file}: expected a column {listed(names)}, found {listed(list(table.columns))}; "
                            "name it with --column")  # fmt: skip
        found += map(str, table.columns[used])
        ids += table.ids
    alphabet = alphabet or guess_alphabet([each.upper() for each in found])
    cleaned, warnings = clean(found, ids, listed(files), alphabet)
    for warning in warnings:
        print(f"warning: {warning}")
    return list(dict.fromkeys(cleaned)), alphabet


def make_tokenizer(alphabet: Alphabet, k: int, max_length: int) -> PreTrainedTokenizerFast:
    """Letters of a sequence as it is, or its overlapping k-mers between blanks; k-mers with an N are unknown."""
    plain = ALPHABETS[alphabet].replace(UNKNOWN[alphabet], "")
    words = ["".join(word) for word in itertools.product(plain, repeat=k)] if k > 1 else [*ALPHABETS[alphabet]]
    vocabulary = {word: at for at, word in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    apart = pre_tokenizers.Split(Regex("."), "isolated")
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit() if k > 1 else apart
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=max_length, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def frequency_loss(train: Sequence[Any], held_out: Sequence[Any], size: int) -> float:
    """Mean negative log-likelihood of tokens that are guessed by their frequency in training rows: without context."""
    counts, asked = (np.bincount([at for row in rows for at in row["input_ids"][1:-1]], minlength=size)
                     for rows in (train, held_out))  # fmt: skip
    return float(-(asked / asked.sum()) @ np.log((counts + 1) / (counts.sum() + size)))


def _split(rows: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    parts = rows.train_test_split(test_size=HELD_OUT, seed=seed)
    return parts["test"], parts["train"]


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
