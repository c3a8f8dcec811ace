"""Folds: nnU-Net's split, by patient, and stable as cases are added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet.folds import Folds, checked_splits, make_splits, patients

pytest.importorskip("nnunetv2")


def fold_of(splits) -> dict[str, int]:
    return {case: fold for fold, split in enumerate(splits) for case in split["val"]}


@pytest.mark.parametrize(("cases", "count"), [(2, 2), (5, 5), (23, 5), (20, 10)])
def test_each_case_is_validated_once_as_nnunet_would(cases, count):
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    names = [f"c{k:02}" for k in range(cases)]
    splits = make_splits(list(reversed(names)), Folds(count))
    assert splits == [
        {key: sorted(map(str, part)) for key, part in split.items()}
        for split in generate_crossval_split(names, seed=12345, n_splits=count)
    ]
    assert sorted(name for split in splits for name in split["val"]) == names
    assert all(sorted(split["train"] + split["val"]) == names for split in splits)


def test_fewer_patients_than_folds_are_refused():
    with pytest.raises(LnqError, match="3 cases are fewer than 5 folds: use --folds 3"):
        make_splits(["a", "b", "c"])
    with pytest.raises(LnqError, match="2 patients are fewer than 3 folds"):
        make_splits(["a1", "a2", "b1"], Folds(3, group_regex=r"^\w"))
    with pytest.raises(LnqError, match="a single case cannot"):
        make_splits(["a"], Folds(2))
    with pytest.raises(LnqError, match="a single patient cannot"):
        make_splits(["a1", "a2"], Folds(2, group_regex="a"))


def test_patients_are_the_first_group_or_all_of_the_match():
    names = ["P2_b", "P1_a", "P1_b"]
    assert patients(names, r"^(P\d)_") == {"P1": ["P1_a", "P1_b"], "P2": ["P2_b"]}
    assert patients(names, r"^P\d") == patients(names, r"^(P\d)_")
    assert list(patients(names, None)) == sorted(names)
    with pytest.raises(LnqError, match=r"does not match the case name P1_a"):
        patients(names, "b$")
    with pytest.raises(LnqError, match="is not a regular expression"):
        patients(names, "(")


def test_cases_of_a_patient_are_in_one_fold():
    names = [f"p{patient:02}-{scan}" for patient in range(7) for scan in range(patient % 3 + 1)]
    splits = make_splits(names, Folds(3, group_regex=r"^p\d+"))
    folds = fold_of(splits)
    assert set(folds) == set(names)
    for split in splits:
        assert not {n[:3] for n in split["train"]} & {n[:3] for n in split["val"]}


@given(before=st.integers(5, 30), added=st.integers(0, 12))
def test_added_cases_leave_the_others_where_they_are_and_fill_the_smallest(before, added):
    first = [f"c{k:02}" for k in range(before)]
    splits = make_splits(first)
    more = [*first, *(f"b{k:02}" for k in range(added))]
    grown = make_splits(more, Folds(kept=splits))
    assert {case: fold for case, fold in fold_of(grown).items() if case in first} == fold_of(splits)
    sizes = [len(split["val"]) for split in grown]
    assert sum(sizes) == before + added
    assert max(sizes) - min(sizes) <= 1
    assert make_splits(more, Folds(kept=grown)) == grown


def test_a_patients_new_case_joins_the_old_ones():
    kept = make_splits(["p1-a", "p2-a", "p3-a"], Folds(3))
    names = ["p1-a", "p2-a", "p3-a", "p2-b", "p4-a"]
    grown = fold_of(make_splits(names, Folds(3, r"^p\d", kept)))
    assert grown["p2-b"] == grown["p2-a"] == fold_of(kept)["p2-a"]
    assert grown["p4-a"] != grown["p2-a"]


def two_cohorts(full: int, weak: int) -> dict[str, str]:
    """Return cases of two cohorts, in whose order the names do not sort."""
    counts = {"full": full, "weak": weak}
    return {f"{k}-{cohort}": cohort for cohort, count in counts.items() for k in range(count)}


def spread(splits, cohorts: dict[str, str], cohort: str | None = None) -> int:
    """Return by how many cases of a cohort, or of all, the folds differ at most."""
    sizes = [sum(cohort in (None, cohorts[name]) for name in split["val"]) for split in splits]
    return max(sizes) - min(sizes)


@given(full=st.integers(1, 12), weak=st.integers(5, 30), added=st.integers(0, 6))
def test_each_cohort_is_spread_evenly_and_stays_so_as_cases_are_added(full, weak, added):
    cohorts = two_cohorts(full, weak)
    splits = make_splits(list(cohorts), cohorts=cohorts)
    assert sorted(name for split in splits for name in split["val"]) == sorted(cohorts)
    grown = two_cohorts(full + added, weak + 1)
    after = make_splits(list(grown), Folds(kept=splits), grown)
    assert {case: fold for case, fold in fold_of(after).items() if case in cohorts} == fold_of(
        splits
    )
    for parts, known in ((splits, cohorts), (after, grown)):
        assert spread(parts, known, "full") <= 1
        assert spread(parts, known, "weak") <= 1
        assert spread(parts, known) <= 2
    assert make_splits(list(reversed(cohorts)), cohorts=cohorts) == splits


def test_a_single_cohort_is_split_as_nnunet_does_whatever_its_name():
    names = [f"c{k:02}" for k in range(11)]
    assert make_splits(names, cohorts=dict.fromkeys(names, "full")) == make_splits(names)


def test_patients_of_several_cohorts_stay_whole():
    cohorts = {f"p{k}-{cohort}": cohort for k in range(6) for cohort in ("a", "b")}
    splits = make_splits(list(cohorts), Folds(3, r"^p\d"), cohorts)
    assert [len(split["val"]) for split in splits] == [4, 4, 4]
    for split in splits:
        assert not {n[:2] for n in split["train"]} & {n[:2] for n in split["val"]}


def test_earlier_splits_that_do_not_fit_are_refused():
    kept = make_splits(["a1", "a2", "b1", "b2"], Folds(2))
    assert fold_of(kept)["a1"] != fold_of(kept)["a2"] or fold_of(kept)["b1"] != fold_of(kept)["b2"]
    with pytest.raises(LnqError, match=r"cases of patient . are in folds 0 and 1"):
        make_splits(["a1", "a2", "b1", "b2"], Folds(2, r"^\w", kept))
    with pytest.raises(LnqError, match="has 2 folds, not 3"):
        make_splits(["a1", "a2", "b1", "b2"], Folds(3, None, kept))
    gone = [{"train": [], "val": ["x"]}, {"train": [], "val": ["a1", "a2"]}]
    assert fold_of(make_splits(["a1", "a2", "n1"], Folds(2, None, gone)))["n1"] == 0
    with pytest.raises(LnqError, match="fold 0 has no case"):
        make_splits(["a1", "a2"], Folds(2, None, gone))


@pytest.mark.parametrize("content", [{}, [], [1], [{"train": []}], "text"])
def test_what_is_no_split_file_is_refused(content):
    with pytest.raises(LnqError, match=r"splits_final\.json"):
        checked_splits(content)


def test_a_case_in_two_folds_is_refused():
    with pytest.raises(LnqError, match="validates the case a in two folds"):
        checked_splits([{"val": ["a"]}, {"val": ["b", "a"]}])
