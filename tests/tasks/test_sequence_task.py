"""Sequence classification: each checkpoint gets the spelling it knows, and long sequences are read whole."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, EsmTokenizer, PreTrainedTokenizerFast, pipeline

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.sequence import SequenceClassification, Spelling, spelling
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.testing import sequence_rows, tiny_sequence_model, tiny_text_model

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPELLINGS = ["letters", "kmers", "esm"]


def kmers(k, letters="ACGT"):
    return ["".join(word) for word in itertools.product(letters, repeat=k)]


def bert(*words):
    return BertTokenizer({word: at for at, word in enumerate([*SPECIAL, *words])}, do_lower_case=False)


def esm(*words):
    names = ["<cls>", "<pad>", "<eos>", "<unk>", *words, "<mask>"]
    return lambda folder: EsmTokenizer(_file(folder, names))


def bpe(*merges):
    words = dict.fromkeys(["[UNK]", *"ACGTN", *("".join(merge) for merge in merges)])
    model = models.BPE({word: at for at, word in enumerate(words)}, list(merges), unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]")


def _file(folder, names):
    (folder / "vocab.txt").write_text("\n".join(names))
    return str(folder / "vocab.txt")


def load(folder, **settings):
    task = SequenceClassification()
    return task, task.load_processor(ModelSpec(name=str(folder), **settings))


def rows_of(*sequences):
    return Dataset.from_dict({"id": list("abcdefg"[: len(sequences)]), "sequence": list(sequences)})


@pytest.mark.parametrize("k", [3, 4, 6])
def test_a_vocabulary_of_all_kmers_is_given_overlapping_kmers(k):
    found = spelling(bert(*kmers(k)))
    assert (found.k, found.replace) == (k, ("U", "T"))


def test_kmers_overlap_in_all_but_one_letter():
    assert Spelling(3).write("ACGTA") == "ACG CGT GTA"
    assert Spelling(3).write("AC") == "AC"
    assert Spelling(1).write("ACG") == "A C G"
    assert Spelling(0).write("ACG") == "ACG"


def test_a_vocabulary_of_amino_acids_in_a_bert_tokenizer_is_given_letters_apart():
    found = spelling(bert(*AMINO_ACIDS))
    assert (found.k, found.replace) == (1, None)
    assert "U" in found.unknown  # selenocysteine stays an unknown, it does not become threonine


def test_tokenizers_that_cut_sequences_themselves_get_them_as_they_are(tmp_path):
    assert spelling(esm(*AMINO_ACIDS, *"XBUZO.-")(tmp_path)) == Spelling(0, None, frozenset("J"))
    assert spelling(esm(*kmers(6), *"ACGTN")(tmp_path)).k == 0  # Nucleotide Transformer
    assert spelling(bpe(("A", "C"), ("AC", "G"), ("T", "T"))).k == 0  # DNABERT-2


def test_checkpoints_of_rna_get_u_for_t():
    assert spelling(bert(*kmers(3, "ACGU"))).replace == ("T", "U")
    assert spelling(bert(*"ACGU")).replace == ("T", "U")
    assert spelling(bert(*"ACGTU")).replace is None


def test_the_letter_is_replaced_in_what_is_written():
    assert Spelling(0, ("U", "T")).write("ACGU") == "ACGT"


def test_a_tokenizer_that_drops_letters_in_silence_knows_none():
    model = models.BPE({"x": 0, "y": 1}, [])
    with pytest.raises(UserError, match="knows no DNA letters"):
        spelling(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model)))


def test_a_word_model_is_no_sequence_model(tmp_path):
    with pytest.raises(UserError, match="no sequence model"):
        load(tiny_text_model(tmp_path))


@pytest.mark.parametrize("kind", SPELLINGS)
def test_every_letter_reaches_the_network(tmp_path, kind):
    task, tokenizer = load(tiny_sequence_model(tmp_path, kind))
    features = task.encode(rows_of("ACGTAC", "GG"), tokenizer)
    assert tokenizer.unk_token_id not in features[0]["input_ids"]
    assert len(features[0]["input_ids"]) == (4 if kind == "kmers" else 6) + 2
    assert task.collate(features, tokenizer)["input_ids"].shape == (2, len(features[0]["input_ids"]))


@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_stock_pipeline_gives_the_same_probabilities(tmp_path, kind):
    task, tokenizer = load(tiny_sequence_model(tmp_path, kind))
    rows = sequence_rows(3)
    model = task.load_model(ModelSpec(name=str(tmp_path)), ["no", "yes"], "single_label_classification").eval()
    with torch.no_grad():
        logits = model(**task.collate(task.encode(rows, tokenizer), tokenizer)).logits
    answers = pipeline(task.pipeline_tag, model=model, tokenizer=tokenizer)(
        task.pipeline_inputs(rows, tokenizer), **task.pipeline_arguments
    )
    found = [{each["label"]: each["score"] for each in answer}["yes"] for answer in answers]
    assert found == pytest.approx(logits.softmax(-1)[:, 1].tolist(), abs=1e-5)


def test_a_protein_is_refused_by_a_checkpoint_of_dna_and_unknown_letters_are_not(tmp_path):
    task, tokenizer = load(tiny_sequence_model(tmp_path, "kmers"))
    with pytest.raises(UserError, match=r"does not know \d+% of the letters \(.*K, L"):
        task.encode(rows_of("MKLEEKLA"), tokenizer)
    assert len(task.encode(rows_of("NNNNNNNA"), tokenizer)) == 1


@pytest.mark.parametrize("kind", SPELLINGS)
def test_long_sequences_become_windows_that_fit_and_hold_every_letter(tmp_path, kind):
    task, tokenizer = load(tiny_sequence_model(tmp_path, kind), max_length=20)
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 101))
    rows = rows_of("ACGT", letters).add_column("label", [1, 0])
    windows = task.cut(rows, tokenizer)
    assert windows["id"][:] == ["a", *(f"b#{at}" for at in range(len(windows) - 1))]
    assert windows["label"][:] == [1] + [0] * (len(windows) - 1)
    pieces = windows["sequence"][1:]
    at = [letters.find(piece) for piece in pieces]
    assert at[0] == 0
    assert at[-1] + len(pieces[-1]) == len(letters)
    assert all(0 < after - before <= len(pieces[0]) / 2 for before, after in itertools.pairwise(at))
    ids = tokenizer([spelling(tokenizer).write(piece) for piece in pieces])["input_ids"]
    assert {len(each) for each in ids} == {20}  # as wide as can be


def test_windows_fit_where_letters_and_tokens_have_no_fixed_ratio():
    tokenizer = bpe(("A", "C"), ("AC", "G"), ("ACG", "T"), ("T", "T"))
    tokenizer.model_max_length = 10
    letters = "ACGT" * 8 + "GGCATAGC" * 4 + "T" * 30
    windows = SequenceClassification().cut(rows_of(letters), tokenizer)
    assert len(windows) > 1
    assert max(len(ids) for ids in tokenizer(windows["sequence"][:])["input_ids"]) <= 10


def test_sequences_that_fit_are_the_same_rows(tmp_path):
    task, tokenizer = load(tiny_sequence_model(tmp_path))
    rows = sequence_rows(2)
    assert task.cut(rows, tokenizer) is rows
    values = np.eye(4)
    assert task.merge(values, rows, rows) is values


def test_predictions_of_windows_are_averaged(tmp_path):
    task, tokenizer = load(tiny_sequence_model(tmp_path), max_length=10)
    rows = rows_of("ACGT", "ACGTACGTACGT")
    windows = task.cut(rows, tokenizer)
    assert windows["id"][:] == ["a", "b#0", "b#1"]
    merged = task.merge(np.array([[1.0, 0.0], [0.2, 0.8], [0.6, 0.4]]), windows, rows)
    assert merged == pytest.approx(np.array([[1.0, 0.0], [0.4, 0.6]]))


def test_a_limit_without_room_for_a_letter_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected 3 at least, got 2"):
        load(tiny_sequence_model(tmp_path), max_length=2)


def test_a_split_at_blanks_alone_is_no_sequence_as_it_is():
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, **{a: at + 1 for at, a in enumerate("ACGT")}}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert spelling(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")).k == 1


def pretraining():
    path = Path(__file__).parents[2] / "scripts" / "pretrain_sequences.py"
    spec = importlib.util.spec_from_file_location("pretrain_sequences", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("k", [1, 3])
def test_a_model_pretrained_from_a_file_is_one_for_this_task(tmp_path, k, capsys):
    rows = sequence_rows(20)
    text = "".join(f">{row['id']}\n{row['sequence'].lower()}\n" for row in rows)
    (tmp_path / "some.fasta").write_text(text)
    sizes = ["--layers", "1", "--width", "32", "--epochs", "1", "--max-length", "24", "--k", str(k)]
    pretraining().main([str(tmp_path / "some.fasta"), "--output", str(tmp_path / "model"), *sizes])
    assert "40 sequences of dna" in capsys.readouterr().out
    task, tokenizer = load(tmp_path / "model")
    assert spelling(tokenizer).k == (0 if k == 1 else 3)
    assert tokenizer.model_max_length == 24
    assert task.load_model(ModelSpec(name=str(tmp_path / "model")), ["no", "yes"], "single_label_classification")


def test_masks_are_runs_of_k_tokens_and_nothing_of_a_run_is_left_to_read():
    module = pretraining()
    tokenizer = module.make_tokenizer("dna", 3, 512)
    masking = module.SpanMasking(tokenizer, mlm_probability=0.2, seed=0)
    masking.span = 3
    words = Spelling(3).write("ACGTTGCA" * 30)
    batch = masking([{"input_ids": tokenizer(words)["input_ids"]} for _ in range(50)])
    masked = batch["labels"] != -100
    assert (batch["input_ids"][masked] == tokenizer.mask_token_id).all()
    assert not masked[:, [0, -1]].any()  # [CLS] and [SEP]
    assert masked[:, 1:-1].float().mean().item() == pytest.approx(0.2, abs=0.02)
    inner = ["".join(map(str, row)).strip("1") for row in masked[:, 1:-1].int().tolist()]  # runs at an edge may be cut
    assert min(len(run) for row in inner for run in row.split("0") if run) >= 3
