"""Catalogues: the one that is shipped, and what others may and may not say."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.models.catalogue import LINES, find_entry, parse_entry, read_catalogue
from lnqtools.models.describe import check_whole, describe
from tests.models_data import mirror_of, pack, served, write_catalogue, write_stand_in

HASH = "0" * 64
FILE = {"url": "a.zip", "sha256": HASH, "size": 5, "unpack": True}


def test_the_shipped_one_has_lnq_segmenters_models():
    entries = {entry.name: entry for entry in read_catalogue()}
    said = {name: (e.line("license"), e.line("training_count")) for name, e in entries.items()}
    assert said == {
        "mediastinal-v1": ("CC BY-NC 4.0", "120"),
        "axillary-v1": ("CC BY-NC 4.0", "20"),
        "inguinal-v1": ("CC BY 4.0", "20"),
        "abdominopelvic-v1": ("CC BY-NC 4.0", "69"),
    }
    for name, entry in entries.items():
        assert entry.why_not() is None
        assert entry.line("labels") == "background 0, lymph_node 1"
        assert entry.line("channels") == "CT"
        assert {part.path for part in entry.parts} == {None}
        begin = f"https://github.com/pieper/lnq-segmenter/releases/download/{name}-1.0.0/{name}-"
        assert all(part.url.startswith(begin) for part in entry.parts)
        assert len({part.sha256 for part in entry.parts}) == len(entry.parts)
    assert entries["mediastinal-v1"].size == 43276 + 4 * 815538907 + 815538971
    assert "LNQ2023" in entries["mediastinal-v1"].terms()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a catalogue of models: Expecting value"),
        ("[" * 100000, "is not a catalogue of models: "),
        ("[]", "it has no list of 'models'"),
        ('{"models": {}}', "it has no list of 'models'"),
        ('{"models": [3]}', "an entry has no name"),
        ('{"models": [{"name": "../a", "version": "1"}]}', "an entry has no name, or one that is"),
        ('{"models": [{"name": ".a", "version": "1"}]}', "an entry has no name, or one that is"),
        ('{"models": [{"name": 5, "version": "1"}]}', "an entry has no name"),
        ('{"models": [{"name": "a"}]}', "a has no version"),
        ('{"models": [{"name": "a", "version": 1}]}', "a has no version"),
        ('{"models": [{"name": "a", "version": "1", "files": 3}]}', "its files are not a list"),
    ],
)
def test_what_is_no_catalogue_is_told(tmp_path, content, words):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(LnqError) as caught:
        read_catalogue(str(tmp_path / "c.json"))
    assert words in str(caught.value)
    assert str(tmp_path / "c.json") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unpack": None}, "a file has neither 'path' nor 'unpack'"),
        ({"path": "a"}, "a file has neither 'path' nor 'unpack', or both"),
        ({"unpack": None, "path": "../a"}, "'../a' is not a path within the model's folder"),
        ({"unpack": None, "path": "/a"}, "'/a' is not a path within"),
        ({"unpack": None, "path": ""}, "'' is not a path within"),
        ({"unpack": None, "path": "lnq-model.json"}, "'lnq-model.json' is not a path within"),
        ({"unpack": None, "path": 3}, "3 is not a path within"),
        ({"sha256": "0"}, "'0' is not a SHA-256"),
        ({"size": -1}, "-1 is not the size of a file"),
        ({"size": True}, "True is not the size of a file"),
        ({"url": "ftp://a/b"}, "ftp://a/b begins with none of http, https, file"),
        ({"url": "http://["}, "'http://[' is not a URL"),
        ({"url": 3}, "3 begins with none of"),
        ("a.zip", "a file has neither 'path' nor 'unpack'"),
    ],
)
def test_a_file_that_cannot_be_is_told(tmp_path, change, words):
    file = {**FILE, **change} if isinstance(change, dict) else change
    with pytest.raises(LnqError) as caught:
        read_catalogue(str(write_catalogue(tmp_path / "c.json", file)))
    assert f"c.json: nodes: {words}" in str(caught.value)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=6)
KEYS = ("name", "version", "files", "url", "sha256", "size", "path", "unpack", "license", "labels")
VALUES = st.recursive(
    SCALARS | st.sampled_from(["a", "a.zip", "file:///a", "http://[", "../a", HASH, True, 5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


@settings(max_examples=50)
@given(
    st.lists(st.fixed_dictionaries({"name": st.just("a") | VALUES}, optional={"version": VALUES})),
    st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=3) | VALUES,
    st.dictionaries(st.sampled_from([*LINES, "training_cases"]), VALUES),
)
def test_whatever_stands_in_a_catalogue_it_is_refused_or_can_be_shown(entries, files, more):
    content = [{"version": "1", "files": files, **more, **entry} for entry in entries]
    with TemporaryDirectory() as folder:
        path = Path(folder, "c.json")
        path.write_text(json.dumps({"models": content}))
        try:
            read = read_catalogue(str(path))
        except LnqError:
            return
    for entry in read:
        assert find_entry(entry.name, [[], read]) is entry
        assert "\n" not in "".join([entry.terms(), *map(str, map(entry.line, LINES))])
        assert entry.why_not() is None or entry.place in entry.why_not()
        for part in entry.parts:
            inside = Path("/inside") / (part.path or "a")
            assert inside.resolve().is_relative_to("/inside")
            assert part.url is None or part.url.startswith(("http:", "https:", "file:"))
        assert parse_entry(entry.recorded(), "again").parts == entry.parts


def test_a_catalogue_from_elsewhere_cannot_name_files_of_this_machine(tmp_path):
    write_catalogue(tmp_path / "c.json", {**FILE, "url": "file:///etc/passwd"})
    assert read_catalogue((tmp_path / "c.json").as_uri())[0].parts[0].url == "file:///etc/passwd"
    with mirror_of(tmp_path) as mirror, pytest.raises(LnqError, match="named by another one"):
        read_catalogue(mirror.url("c.json"))


def test_two_entries_of_a_name_are_refused(tmp_path):
    write_catalogue(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({"models": content["models"] * 2}))
    with pytest.raises(LnqError, match="there are two entries for nodes"):
        read_catalogue(str(tmp_path / "c.json"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "where its files are"),
        ([{**FILE, "url": None}], "where its files are"),
        ([FILE, {**FILE, "sha256": None}], "their hashes"),
        ([{**FILE, "url": None, "size": None}], "where its files are or their sizes"),
    ],
)
def test_a_model_of_which_too_little_is_known_is_only_shown(tmp_path, files, words):
    catalogue = write_catalogue(tmp_path / "c.json", *files, source="https://a.org")
    (entry,) = read_catalogue(str(catalogue))
    assert entry.why_not() == (
        f"{catalogue} does not say {words}, so it can be shown, but neither fetched nor verified: "
        "get it from https://a.org and give its folder to -m"
    )


def test_terms_are_told_even_where_they_are_unknown(tmp_path):
    said = read_catalogue(str(write_catalogue(tmp_path / "a.json")))[0].terms()
    assert said == "license: not stated: ask its makers; do not test on its training cases"
    some = {"license": "CC\nBY 4.0", "training_cases": ["x", "y"]}
    said = read_catalogue(str(write_catalogue(tmp_path / "a.json", **some)))[0].terms()
    assert said == "license: CC BY 4.0; do not test on its training cases (2)"


def test_a_server_that_is_not_there_is_told(tmp_path):
    with mirror_of(tmp_path) as mirror:
        url = mirror.url("c.json")
        with pytest.raises(LnqError, match=r"c\.json cannot be fetched: 404"):
            read_catalogue(url)
    with pytest.raises(LnqError, match=r"c\.json cannot be fetched: Connection refused"):
        read_catalogue(url)
    with pytest.raises(LnqError, match="cannot be fetched: ValueError Invalid IPv6 URL"):
        read_catalogue("http://[")
    with pytest.raises(LnqError, match="cannot be fetched: No such file"):
        read_catalogue((tmp_path / "c.json").as_uri())


# Entries of trained models


def test_an_entry_has_what_the_models_files_say(tmp_path):
    folder = write_stand_in(tmp_path / "my nodes", folds=1)
    entry = describe(folder, "nodes", "2", None)
    files = entry.pop("files")
    assert entry == {
        **{"name": "nodes", "version": "2", "license": None, "citation": None},
        **{"labels": {"background": 0, "node": 1}, "channels": ["CT"]},
        **{"training_count": 4, "training_cases": []},
    }
    checkpoint = "fold_0/checkpoint_final.pth"
    expected = [
        served(folder / name, f"my%20nodes/{name}", to=name)
        for name in ("plans.json", "dataset.json", checkpoint)
    ]
    assert files == expected


def test_an_archive_is_one_file(tmp_path):
    folder = write_stand_in(tmp_path / "model")
    archive = pack(tmp_path / "nodes.zip", folder)
    entry = describe(archive, None, "1", "CC0")
    assert (entry["name"], entry["license"]) == ("nodes", "CC0")
    assert entry["files"] == [served(archive)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("splits_final.json", [{"train": ["b", "a"], "val": ["c"]}]),
        ("lnq-train.json", {"made_with": {"cases": {"c": {}, "a": {}, "b": {}}}, "runs": []}),
    ],
)
def test_training_cases_are_those_of_splits_or_record(tmp_path, name, content):
    folder = write_stand_in(tmp_path / "model")
    (folder / name).write_text(json.dumps(content))
    entry = describe(folder, None, "1", None)
    assert (entry["training_count"], entry["training_cases"]) == (3, ["a", "b", "c"])


def test_what_cannot_be_described_is_told(tmp_path):
    folder = write_stand_in(tmp_path / "a" / "b" / "my nodes")
    with pytest.raises(LnqError, match="'my nodes' is no name for a model: --name gives one"):
        describe(folder, None, "1", None)
    with pytest.raises(LnqError, match="is not an nnU-Net results folder"):
        describe(tmp_path, "a", "1", None)
    trained = write_stand_in(tmp_path / "data" / "trained")
    for name in ("plans.json", "dataset.json"):
        (trained / name).rename(trained.parent / name)
    with pytest.raises(LnqError, match="lies above the folder: give the folder that holds it"):
        describe(trained, None, "1", None)
    within = [file["path"] for file in describe(trained.parent, None, "1", None)["files"]]
    assert within[0::2] == ["plans.json", "trained/fold_0/checkpoint_final.pth"]


def test_a_model_without_hashes_is_whole_by_its_own_account(tmp_path):
    folder = write_stand_in(tmp_path / "model", folds=2)
    for number in (0, 1):
        checkpoint = folder / f"fold_{number}" / "checkpoint_final.pth"
        (tmp_path / "weights").write_bytes(checkpoint.read_bytes())
        pack(checkpoint, tmp_path, "weights")
    check_whole(folder)
    record = {"made_with": {"cases": {}}, "runs": [{"fold": "0"}, {"fold": "2"}]}
    (folder / "lnq-train.json").write_text(json.dumps(record))
    with pytest.raises(LnqError, match="fold_2 is not trained to its end: lnq-train -s goes on"):
        check_whole(folder)
    content = bytearray(checkpoint.read_bytes())
    content[500] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(
        LnqError, match=r"fold_1/checkpoint_final\.pth: its part weights is damaged"
    ):
        check_whole(folder)
    checkpoint.write_bytes(content[:800])
    with pytest.raises(LnqError, match=r"fold_1/checkpoint_final\.pth: it is cut or damaged"):
        check_whole(folder)


def test_paths_of_a_catalogue_are_relative_to_it(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    write_catalogue(folder / "c.json", {**FILE, "url": "x/a%20b.zip"})
    (entry,) = read_catalogue(str(folder / "c.json"))
    assert entry.parts[0].url == Path(tmp_path, "a b", "x", "a b.zip").as_uri()
