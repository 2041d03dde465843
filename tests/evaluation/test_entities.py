"""Entities: seqeval's numbers, a linear F1 that is the F1, honest intervals, and a lexicon that learns by heart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from hf_smalldata.evaluation.diagnosis import per_class
from hf_smalldata.evaluation.entities import (
    counts,
    entities,
    entity_f1,
    entity_precision,
    entity_recall,
    lexicon,
    linearised_f1,
    per_type,
    token_accuracy,
    worst_sentences,
)
from hf_smalldata.evaluation.intervals import bootstrap, wilson

TYPES = ("a", "b", "c")
NAMES = ("O", "B-a", "I-a", "B-b", "I-b", "B-c", "I-c")


def tagged(seed, sentences=60, agreement=0.8):
    """Random references and predictions that agree on a share of the tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 15, sentences)
    true = [rng.choice(7, length, p=[0.4, 0.15, 0.15, 0.1, 0.1, 0.05, 0.05]) for length in lengths]
    given = [np.where(rng.random(len(each)) < agreement, each, rng.integers(0, 7, len(each))) for each in true]
    return given, true


def named(tags):
    return [[NAMES[tag] for tag in each] for each in tags]


def value(statistic, rows):
    return float(statistic(np.ones((1, rows)))[0])


@pytest.mark.parametrize("seed", range(5))
def test_entities_are_seqevals_for_any_tags(seed):
    for each in tagged(seed)[1]:
        expected = [(start, end + 1, TYPES.index(kind)) for kind, start, end in get_entities([NAMES[t] for t in each])]
        assert entities(each) == expected


def test_an_inside_tag_goes_on_only_with_its_own_type():
    assert entities([2, 2, 4, 0, 4, 3, 4, 1, 1]) == [
        (0, 2, 0), (2, 3, 1), (4, 5, 1), (5, 7, 1), (7, 8, 0), (8, 9, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_are_seqevals(seed):
    given, true = tagged(seed)
    for ours, theirs in (
        (entity_f1, f1_score),
        (entity_precision, precision_score),
        (entity_recall, recall_score),
        (token_accuracy, accuracy_score),
    ):
        assert value(ours(given, true), 60) == pytest.approx(theirs(named(true), named(given)), abs=1e-12)


def test_weights_count_a_sentence_as_often_as_they_say():
    given, true = tagged(0, sentences=3)
    repeated = [given[at] for at in (0, 0, 2)], [true[at] for at in (0, 0, 2)]
    for statistic in (entity_f1, entity_precision, entity_recall, token_accuracy):
        weighted = statistic(given, true)(np.array([[2.0, 0.0, 1.0]]))[0]
        assert weighted == pytest.approx(value(statistic(*repeated), 3), abs=1e-12)


def test_entities_are_counted_a_sentence():
    assert counts([[1, 2, 0], [0, 0]], [[1, 2, 1], [0, 1]]).tolist() == [[1, 1, 2], [0, 0, 1]]
    assert counts([], []).shape == (0, 3)


def test_sentences_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 for 3 tokens"):
        counts([[0, 0]], [[0, 0, 0]])


def test_nothing_to_find_and_nothing_found_is_0():
    nothing = [[0, 0], [0]]
    assert [value(f(nothing, nothing), 2) for f in (entity_f1, entity_precision, entity_recall)] == [0, 0, 0]
    assert linearised_f1(nothing, nothing).tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_of_the_linear_values_is_the_f1(seed):
    given, true = tagged(seed)
    assert linearised_f1(given, true).mean() == pytest.approx(value(entity_f1(given, true), 60), abs=1e-12)


def test_the_spread_of_the_linear_values_is_that_of_resampled_f1():
    given, true = tagged(1, sentences=800)
    linear = linearised_f1(given, true)
    interval = bootstrap(entity_f1(given, true), 800)
    assert 2 * 1.96 * linear.std(ddof=1) / 800**0.5 == pytest.approx(interval.high - interval.low, rel=0.08)


def test_types_have_seqevals_numbers_within_their_intervals():
    given, true = tagged(3)
    found = per_type(given, true, TYPES)
    expected = classification_report(named(true), named(given), output_dict=True)
    assert list(found) == list(TYPES)
    for name, each in found.items():
        assert each["support"] == expected[name]["support"]
        for metric, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert each[metric]["value"] == pytest.approx(expected[name][theirs], abs=1e-12)
            assert 0 <= each[metric]["low"] < each[metric]["value"] < each[metric]["high"] <= 1


def test_types_have_the_form_of_classes():
    given, true = tagged(3)
    ours, classes = per_type(given, true, TYPES)["a"], per_class([0, 1], [0, 1], ("x", "y"))["x"]
    assert list(ours) == list(classes)
    assert list(ours["f1"]) == list(classes["f1"])
    assert json.loads(json.dumps(ours)) == ours


def test_a_type_whose_few_entities_are_all_right_has_an_interval():
    found = per_type([[1, 2], [1, 0]], [[1, 2], [1, 0]], ("a", "b"))
    assert found["a"]["recall"] == wilson(2, 2)._asdict()
    assert found["b"]["recall"] == {"value": 0.0, "low": None, "high": None}
    assert found["b"]["f1"] == {"value": 0.0, "low": None, "high": None}
    assert found["b"]["support"] == 0


def test_entities_that_come_in_lumps_widen_the_interval_of_their_type():
    right, wrong = [1] * 10, [0] * 10
    found = per_type([right] * 10 + [wrong] * 10, [right] * 20, ("a",))["a"]["recall"]
    assert found["low"] < wilson(100, 200).low - 0.05
    assert found["high"] > wilson(100, 200).high + 0.05


def test_the_worst_sentences_come_first_and_right_ones_not_at_all():
    true = [[1, 2, 0], [1, 3, 0], [1, 0, 0]]
    given = [[1, 2, 0], [0, 0, 5], [0, 0, 0]]
    assert worst_sentences(["x", "y", "z"], given, true, TYPES) == [
        {"id": "y", "label": ["a[0:1]", "b[1:2]"], "prediction": ["c[2:3]"], "score": None, "score_of_label": None},
        {"id": "z", "label": ["a[0:1]"], "prediction": [], "score": None, "score_of_label": None},
    ]
    assert [row["id"] for row in worst_sentences(["x", "y", "z"], given, true, TYPES, most=1)] == ["y"]


def learnt(test, *train):
    """Tags by the lexicon; training sentences are of words such as York:3."""
    pairs = [[word.split(":") for word in sentence.split()] for sentence in train]
    tokens = [[word for word, _ in sentence] for sentence in pairs]
    tags = [[int(tag) for _, tag in sentence] for sentence in pairs]
    return lexicon(tokens, tags, [test.split()])[0].tolist()


def test_the_lexicon_takes_the_longest_name_and_goes_on_after_it():
    train = ("New:1 York:2 is:0", "York:3", "New:1 York:2 Times:2")
    assert learnt("in New York Times York New York New", *train) == [0, 1, 2, 2, 3, 1, 2, 0]


def test_the_lexicon_minds_case():
    assert learnt("rome Rome", "Rome:1 is:0") == [0, 1]


def test_the_lexicon_takes_the_more_frequent_type():
    assert learnt("Washington", "Washington:1", "Washington:3 Washington:3") == [3]


def test_the_lexicon_leaves_out_names_that_are_mostly_words():
    assert learnt("March can", "March:1 can:3", "can:0 can:0 March:0") == [1, 0]


def test_a_name_inside_a_longer_entity_is_not_outside():
    assert learnt("York", "York:1", "New:1 York:2", "New:1 York:2", "New:1 York:2") == [1]


def test_touching_entities_of_the_lexicon_stay_two():
    assert learnt("Ann Bea", "Ann:1 and:0 Bea:1") == [1, 1]
