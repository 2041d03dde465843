"""Translators built in code: a network that reads word after word and looks each one up, exact without training.

Loaded by path (tests are no package) by the fixture `there_and_back`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from hf_smalldata.testing import FILLER, TOPICS

LONGEST = 24  # words
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def there(word: str) -> str:
    """A word of the other language."""
    return f"x{word}"


def there_and_back(folder: Path) -> tuple[str, str]:
    """Folders of two translators: back come the next two words of a topic, the nearer one more likely."""
    out = {word: [there(word)] for words in TOPICS.values() for word in words}
    back = {there(word): [words[(at + step) % 6] for step in (1, 2)]
            for words in TOPICS.values() for at, word in enumerate(words)}  # fmt: skip
    return str(word_translator(folder / "there", out)), str(word_translator(folder / "back", back))


def word_translator(folder: Path, dictionary: Mapping[str, Sequence[str]]) -> Path:
    """A BART that says for each word its translations, the first the likeliest; other words of FILLER stay.

    State: one place a word, one a position. The decoder's position finds the encoder's, whose word is looked up.
    """
    words = list(dict.fromkeys([*SPECIAL, *FILLER, *dictionary, *chain(*dictionary.values())]))
    place = {word: at for at, word in enumerate(words)}
    count, wide = len(words), len(words) + LONGEST
    config = BartConfig(
        vocab_size=count, d_model=wide, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=2, decoder_ffn_dim=2, max_position_embeddings=LONGEST, dropout=0.0,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    looked_up = torch.zeros(wide, wide)
    for word, at in place.items():
        for rank, other in enumerate(dictionary.get(word, [word])):
            looked_up[place[other], at] = 0.95**rank
    positions = torch.diag(torch.tensor([0.0] * count + [1.0] * LONGEST))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        model.model.shared.weight.copy_(torch.eye(count, wide))
        for part in (model.model.encoder, model.model.decoder):
            part.embed_positions.weight[2:, count:] = torch.eye(LONGEST)  # BART counts from 2
        attention = model.model.decoder.layers[0].encoder_attn
        attention.q_proj.weight.copy_(4 * positions)
        attention.k_proj.weight.copy_(positions)
        attention.v_proj.weight.copy_(looked_up)
        attention.out_proj.weight.copy_(4 * torch.eye(wide))
    model.save_pretrained(folder)
    backend = Tokenizer(models.WordLevel(place, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=LONGEST,
    ).save_pretrained(folder)  # fmt: skip
    return folder
