from hf_smalldata.doctor import twins


def test_a_test_row_in_other_case_and_blanks_is_a_leak(made):
    rows = made.rows(40)
    text, label = rows[3]
    found = made.report(train=rows, test=[*made.rows(60, seed=1), (text.upper().replace(" ", "  "), label)])
    leak = made.named(found, "leaks")
    assert (leak.level, leak.ids) == ("fail", ("test:60",))
    assert set(leak.drops) == {"train:3"}


def test_near_copies_across_splits_are_a_warning_and_no_leak(made):
    rows = made.rows(40)
    text, label = rows[3]
    found = made.report(train=rows, test=[*made.rows(60, seed=1), (f"{text}!", label), (text + " x", label)])
    assert made.named(found, "leaks").level == "pass"
    near = made.named(found, "near leaks")
    assert (near.level, near.ids, set(near.drops)) == ("warn", ("test:60", "test:61"), {"train:3"})


def test_equal_inputs_with_other_labels_are_all_named(made):
    rows = made.rows(100)
    found = made.report(train=[*rows, (rows[0][0], "b"), (rows[1][0], "a"), (rows[2][0], rows[2][1])])
    conflict = made.named(found, "conflicts")
    assert (conflict.level, set(conflict.ids)) == ("warn", {"train:0", "train:100", "train:1", "train:101"})
    assert set(made.named(found, "duplicates").ids) == {"train:102"}


def test_many_conflicts_fail(made):
    rows = made.rows(40)
    found = made.report(train=[*rows, *((text, "a") for text, label in rows[:6] if label == "b")])
    assert made.named(found, "conflicts").level == "fail"


def test_of_duplicates_the_first_is_kept(made):
    rows = made.rows(40)
    duplicate = made.named(made.report(train=[*rows, rows[0], rows[0]]), "duplicates")
    assert dict(duplicate.drops) == {"train:40": "the same as train:0", "train:41": "the same as train:0"}


def test_a_group_in_two_splits_fails(made):
    data = made.sample(train=made.rows(6), test=made.rows(4, seed=1))
    data.groups = {"train": ["p1", "p1", "p2", "p3", "p3", "p4"], "test": ["p3", "p5", "p5", "p6"]}
    (found,) = twins.groups(data)
    assert (found.level, found.ids, set(found.drops)) == ("fail", ("test:0",), {"train:3", "train:4"})


def test_groups_of_one_split_each_pass(made):
    data = made.sample(train=made.rows(4), test=made.rows(4, seed=1))
    data.groups = {"train": ["p1", "p1", "p2", "p2"], "test": ["p3", "p4", "p4", "p4"]}
    (found,) = twins.groups(data)
    assert (found.level, found.sentence) == ("pass", "4 groups, none in two splits")
