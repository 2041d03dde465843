"""A template or learnt tokens before every text, inside the tokenizer, so that stock pipelines use them.

A template such as "It was {mask}. {text}": a masked language model was trained to fill in one word; with few labels it
is better asked for a word than given a new head. Stock classifiers read the first token, so the mask is put there: the
other tokens follow in their order, and the position vectors of the model are put in the same order
(`nn.cloze.mask_first`), which changes no state. Useless for models that were not trained on masks.

Learnt tokens are new ones of the vocabulary, behind those that the tokenizer itself puts first: the first token, which
classifiers read, stays the first.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

from tokenizers import AddedToken, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_smalldata.errors import UserError

MASK, TEXT = "{mask}", "{text}"


class Prompt(NamedTuple):
    """What stands before every text: token ids as one would read them, and the place of the mask among them."""

    ids: list[int]
    place: int


def check_template(template: str) -> str:
    """The template, if the text ends it and one mask comes before: there the mask has one place in all texts.

    Raises:
        ValueError: another form.
    """
    if template.count(MASK) != 1 or template.count(TEXT) != 1 or not template.endswith(TEXT):
        raise ValueError("expected one {mask} and after it, at the end, one {text}, as in 'It was {mask}. {text}'")
    return template


def prompt(tokenizer: Any, template: str) -> Prompt:
    """The template in tokens, behind those that the tokenizer itself puts first.

    Raises:
        UserError: a tokenizer that has no mask, or none of the tokenizers library behind it.
    """
    if not tokenizer.is_fast or tokenizer.mask_token is None:
        raise UserError("model.template: the tokenizer of this model has no mask token; leave it out")
    # blanks before the mask and before the text are part of what comes there
    before, after = (part.rstrip() for part in template.removesuffix(TEXT).split(MASK))
    front, behind = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))
    front = [*_first(_layout(tokenizer, "a")), *front]
    return Prompt([*front, tokenizer.mask_token_id, *behind], len(front))


def prompted(tokenizer: Any, template: str) -> PreTrainedTokenizerFast:
    """The tokenizer with a template around every text, of which cutting never takes a part; the mask stands first.

    It is of the class that reads all of itself from tokenizer.json: those of BERT and others would build their own
    template anew when loaded.

    Args:
        tokenizer: changed by this.
        template: as `check_template` has it.

    Raises:
        UserError: see `prompt`; a template that leaves no room for texts.
    """
    ids, place = prompt(tokenizer, template)
    spaced = template.removesuffix(TEXT)[-1:].isspace()
    backend = tokenizer.backend_tokenizer
    if spaced and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        backend.pre_tokenizer.add_prefix_space = True  # a text's first word is not the first of the line any more
    return _beginning(tokenizer, [ids[place], *ids[:place], *ids[place + 1 :]], "the template")


def with_prompt_tokens(tokenizer: Any, count: int) -> PreTrainedTokenizerFast:
    """The tokenizer with `count` tokens of their own before every text, of which cutting never takes a part.

    One that has them already, as that of a Run has, stays as it is.

    Args:
        tokenizer: changed by this.
        count: of tokens, named <|prompt_0|> and so on.

    Raises:
        UserError: a tokenizer that has none of the tokenizers library behind it; other prompt tokens in it; no room
            for texts.
    """
    if not tokenizer.is_fast:
        raise UserError(f"model.prompt_tokens: {type(tokenizer).__name__} cannot put tokens before a text, as those of "
                        "the tokenizers library can; leave prompt tokens out, e.g. for lora or bitfit")  # fmt: skip
    names = [f"<|prompt_{at}|>" for at in range(count)]
    there = [word for word in tokenizer.get_vocab() if word.startswith("<|prompt_")]
    if set(there) == set(names):
        return _beginning(tokenizer, _first(_layout(tokenizer, "a")), "the prompt")
    if there:
        raise UserError(f"model.prompt_tokens: the model has {len(there)} prompt tokens already; expected as many, got "
                        f"{count}")  # fmt: skip
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names])
    first = [*_first(_layout(tokenizer, "a")), *tokenizer.convert_tokens_to_ids(names)]
    return _beginning(tokenizer, first, "the prompt")


def prompt_token_ids(tokenizer: Any) -> list[int]:
    """Ids of the tokens that `with_prompt_tokens` added, in order."""
    found = {word: index for word, index in tokenizer.get_vocab().items() if word.startswith("<|prompt_")}
    return sorted(found.values())


def _beginning(tokenizer: Any, first: list[int], what: str) -> PreTrainedTokenizerFast:
    """The tokenizer with other tokens before every text than those that it puts there itself.

    Args:
        tokenizer: changed by this.
        first: ids of all that comes before a text.
        what: these are, for the message.

    Raises:
        UserError: no room for texts.
    """
    backend = tokenizer.backend_tokenizer
    special: dict[str, list[int]] = {}
    single, pair = (_pieces(_layout(tokenizer, *texts), first, special) for texts in (("a",), ("a", "b")))
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair,
        special_tokens=[{"id": name, "ids": some, "tokens": tokenizer.convert_ids_to_tokens(some)}
                        for name, some in special.items()],
    )  # fmt: skip
    names = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    least, limit = backend.num_special_tokens_to_add(is_pair=True), tokenizer.model_max_length
    if limit <= least:
        raise UserError(f"model.max_length: expected more than {least}, which {what} takes alone, got {limit}; raise "
                        f"it or shorten {what}")  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=limit, padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side, model_input_names=tokenizer.model_input_names, **names,
    )  # fmt: skip


class _Group(NamedTuple):
    """Neighbouring tokens of one text, or of none: those that the tokenizer adds."""

    text: int | None
    ids: list[int]
    type_id: int


def _layout(tokenizer: Any, *texts: str) -> list[_Group]:
    """What the tokenizer makes of one text or a pair."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    found = backend.encode(*texts)
    tokens = zip(found.sequence_ids, found.ids, found.type_ids, strict=True)
    groups = ((text, list(group)) for text, group in groupby(tokens, key=lambda token: token[0]))
    return [_Group(text, [each[1] for each in group], group[0][2]) for text, group in groups]


def _first(layout: list[_Group]) -> list[int]:
    """Tokens that the tokenizer puts before a text."""
    return layout[0].ids if layout[0].text is None else []


def _pieces(layout: list[_Group], first: list[int], special: dict[str, list[int]]) -> list[str]:
    """The layout as TemplateProcessing takes it, with `first` in place of what came before; `special` is filled."""
    special["first"] = first
    pieces = ["first:0"]
    for group in layout[1:] if _first(layout) else layout:
        name = f"${'AB'[group.text]}" if group.text is not None else "+".join(map(str, group.ids))
        if group.text is None:
            special[name] = group.ids
        pieces.append(f"{name}:{group.type_id}")
    return pieces
