from hf_smalldata.doctor import giveaways


def test_a_signature_of_one_class_is_seen(made):
    rows = [(f"{text} sincerely" if label == "a" else text, label) for text, label in made.rows(60)]
    found = giveaways.words(made.sample(train=rows))
    assert found.level == "warn"
    assert "'sincerely' in 100% of 'a', 100.0% right" in found.sentence


def test_a_word_of_most_of_a_class_is_seen_if_it_is_never_wrong(made):
    rows = [
        (f"{text} stamp" if label == "a" and at % 3 != 0 else text, label)
        for at, (text, label) in enumerate(made.rows(120))
    ]
    assert "'stamp'" in giveaways.words(made.sample(train=rows)).sentence


def test_a_word_that_is_wrong_now_and_then_is_none(made):
    rows = [
        (f"{text} good" if (label == "a") != (at % 7 == 0) else text, label)
        for at, (text, label) in enumerate(made.rows(120))
    ]
    assert giveaways.words(made.sample(train=rows)).level == "pass"


def test_names_of_classes_in_their_own_texts_are_seen(made):
    names = ("late_delivery", "refund wanted")
    rows = [(f"{text} [{names[at % 2].replace('_', ' ')}]", names[at % 2]) for at, text in enumerate(made.texts(60))]
    found = giveaways.words(made.sample(train=rows))
    assert found.level == "warn"
    assert "'late delivery' in 100%" in found.sentence


def test_few_rows_give_nothing_away(made):
    assert (
        giveaways.words(made.sample(train=[("x one", "a"), ("x two", "a"), ("y one", "b"), ("y two", "b")])).level
        == "pass"
    )


def test_paths_that_hold_the_label_are_said(made):
    data = made.sample(train=made.rows(40))
    paths = {row_id: f"scans/{'ab'[at % 2]}_{at}.png" for at, row_id in enumerate(data.parts["train"].ids)}
    (found,) = giveaways.paths(data, paths, "file")
    assert found.level == "warn"
    assert giveaways.paths(data, {row_id: f"scans/{row_id}.png" for row_id in paths}, "file") == []
