"""The batch contract of the tools that turn images into images.

Every clause is tried on one light tool; on the other tools those are that their own code could
break, as `OF_EACH_TOOL` says. Processes start as at a shell where streams, signals and
repeatability are tested, and are forked elsewhere.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.cohort import MATRIX, NAMES, SHAPE, TOOLS, Tool, make_cohort
from tests.cli.helpers import QUIETLY_BY_SIGPIPE, end_without_reader
from tests.conftest import BIN, Result, affine, load, run, save, shell, succeed

WHOLE = "lnq-weaklabel"
"""The tool of all clauses: it takes companions and -j, and loads little."""
OF_EACH_TOOL = {
    "test_one_input_to_one_file": "it writes its image itself",
    "test_many_inputs_print_their_outputs_in_input_order": "it says what it made",
    "test_skip_keeps_what_was_made_with_the_same_options": "it says which options made an image",
    "test_skip_refuses_what_was_made_with_other_options": "it says which options made an image",
    "test_an_output_says_what_content_it_was_made_from": "it says which files made an image",
    "test_skip_refuses_what_was_made_from_another_content": "it says so before it reads them",
    "test_a_companion_is_never_overwritten": "it says which companions a case has",
    "test_same_inputs_and_options_give_the_same_bytes": "it computes them",
    "test_two_jobs_give_what_one_gives": "its work is done in children",
    "test_a_damaged_file_does_not_stop_the_others": "it reads its inputs itself",
    "test_a_missing_companion_names_case_and_place": "it asks for its companions itself",
    "test_a_companion_on_another_grid_is_an_error_that_says_how": "it compares their grids",
    "test_a_companion_within_half_a_voxel_or_stored_otherwise_is_taken_one_to_one": "it turns them",
    "test_image_in_on_stdin_and_out_on_stdout": "it reads and writes there itself",
    "test_quiet_says_nothing_but_errors": "it has messages of its own",
    "test_an_image_of_another_type_of_voxel_keeps_its_place": "it chooses the grid of its image",
}
"""Clauses that every tool is held to, and what of its own code could break them."""
OF_NETWORKS = {
    "test_ctrl_c_ends_a_running_network": "torch computes, in threads of its own",
}
"""Clauses of lnq-infer alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tool" in metafunc.fixturenames:
        tools = [tool for tool in TOOLS if is_held_to(tool, metafunc.function.__name__)]
        slow = {"lnq-infer": [pytest.mark.slow]}
        metafunc.parametrize(
            "tool", [pytest.param(t, id=t.name, marks=slow.get(t.name, ())) for t in tools]
        )


def is_held_to(tool: Tool, clause: str) -> bool:
    if clause in OF_NETWORKS:
        return tool.name == "lnq-infer"
    takes_it = tool.companion is not None or "companion" not in clause
    return tool.name == WHOLE or (clause in OF_EACH_TOOL and takes_it)


def test_the_tables_name_clauses():
    assert {*OF_EACH_TOOL, *OF_NETWORKS} <= set(globals())
    assert WHOLE in {tool.name for tool in TOOLS if tool.companion and tool.parallel}


@pytest.fixture
def cohort(tmp_path: Path, tool: Tool, request: pytest.FixtureRequest) -> Path:
    if tool.name == "lnq-infer":
        shutil.copytree(request.getfixturevalue("model"), tmp_path / "model")
    return make_cohort(tmp_path)


def own_options(tool: Tool, cohort: Path) -> list[str]:
    return [str(cohort / "model") if option == "model" else option for option in tool.options]


def options(tool: Tool, cohort: Path) -> list[str]:
    companion = [tool.companion[0], str(cohort / tool.companion[1])] if tool.companion else []
    return [*own_options(tool, cohort), *companion]


def inputs(tool: Tool, cohort: Path) -> list[Path]:
    return [cohort / tool.inputs / f"{name}.nii.gz" for name in NAMES]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def problems(result: Result) -> list[str]:
    return [line for line in result.err.splitlines() if ": warning: " not in line]


# Inputs


def test_no_input_is_a_usage_error(tool, cohort):
    result = run(tool.name, *options(tool, cohort), "-O", cohort / "out", anew=tool.name == WHOLE)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith(f"{tool.name}: no input")
    assert result.err.count("\n") == 1


def test_an_empty_list_is_no_input(tool, cohort):
    result = run(tool.name, *options(tool, cohort), "-O", cohort / "out", "-T", "-", stdin=b"")
    assert result.status == 2
    assert not (cohort / "out").exists()


def test_one_input_to_one_file(tool, cohort):
    target = cohort / "one.nii"
    result = succeed(tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-o", target)
    assert result.lines == [str(target)]
    assert load(target).size > 0


def test_many_inputs_print_their_outputs_in_input_order(tool, cohort):
    sources = list(reversed(inputs(tool, cohort)))
    arguments = [*sources, *options(tool, cohort), "-0", "-O", cohort / "out"]
    result = succeed(tool.name, *arguments, anew=tool.name == WHOLE)
    assert result.out == "".join(f"{cohort}/out/{path.name}\0" for path in sources)
    assert sorted(contents(cohort / "out")) == sorted(path.name for path in sources)


def test_paths_from_stdin_one_a_line(tool, cohort):
    sources = inputs(tool, cohort)[:2]
    listing = "".join(f"{path}\n" for path in sources).encode()
    arguments = [*options(tool, cohort), "-T", "-", "-O", cohort / "out"]
    result = succeed(tool.name, *arguments, stdin=listing, anew=tool.name == WHOLE)
    assert result.lines == [f"{cohort}/out/{path.name}" for path in sources]


def test_a_folder_is_its_images_in_order_of_their_names(tool, cohort):
    """What is hidden, in its folders, or called otherwise is none of them."""
    place = cohort / tool.inputs
    for other in ("._plain.nii.gz", "notes.txt", "plain.json", "deep/other.nii.gz"):
        (place / other).parent.mkdir(exist_ok=True)
        (place / other).write_bytes(b"no image")
    result = succeed(tool.name, place, *options(tool, cohort), "-0", "-O", cohort / "out")
    expected = [f"{cohort}/out/{name}.nii.gz" for name in sorted(NAMES)]
    assert result.out.split("\0")[:-1] == expected


def test_a_folder_may_come_by_a_list_and_with_its_own_images(tool, cohort):
    """As from find, which names the folder first; each image is an input once."""
    first, second, third = inputs(tool, cohort)
    third.unlink()
    listing = f"{first.parent}\n{second}\n".encode()
    arguments = [first, f"{first.parent}/", *options(tool, cohort), "-T", "-"]
    result = succeed(tool.name, *arguments, "-O", cohort / "out", stdin=listing)
    assert result.lines == [f"{cohort}/out/{path.name}" for path in (first, second)]


def test_a_folder_of_one_image_may_go_to_one_file(tool, cohort):
    first, *others = inputs(tool, cohort)
    target = cohort / "one.nii.gz"
    arguments = [first.parent, *options(tool, cohort), "-o", target]
    assert "-o takes one input, there are 3" in run(tool.name, *arguments).err
    for other in others:
        other.unlink()
    assert succeed(tool.name, *arguments).lines == [str(target)]


def test_shards_of_a_folder_are_those_of_its_images(tool, cohort):
    place = cohort / tool.inputs
    arguments = [place, *options(tool, cohort), "-0", "-O", cohort / "out", "--shard", "1/3"]
    assert succeed(tool.name, *arguments).out == f"{cohort}/out/plain.nii.gz\0"


def test_channels_in_a_folder_are_not_taken_for_cases(tool, cohort):
    first = inputs(tool, cohort)[0]
    (cohort / "raw").mkdir()
    for name in ("a_0000", "a_0001", "b_0001"):
        shutil.copy(first, cohort / "raw" / f"{name}.nii.gz")
    companion = [tool.companion[0], cohort / tool.companion[1] / first.name]
    arguments = [cohort / "raw", *own_options(tool, cohort), *companion, "-O", cohort / "out"]
    refused = run(tool.name, *arguments)
    assert (refused.status, refused.out) == (2, "")
    assert (
        f"{cohort}/raw/a_0000.nii.gz and {cohort}/raw/a_0001.nii.gz look like channels of one case"
        in refused.err
    )
    named = succeed(tool.name, *arguments, "--case-pattern", "[^/]+_[0-9]{4}")
    assert named.lines == [f"{cohort}/out/{name}.nii.gz" for name in ("a_0000", "a_0001", "b_0001")]
    (cohort / "raw" / "a_0001.nii.gz").unlink()
    alone = succeed(tool.name, *arguments, "-f")
    assert alone.lines == [f"{cohort}/out/{name}.nii.gz" for name in ("a", "b_0001")]


def test_nul_ended_paths_may_hold_line_ends(tool, cohort):
    sources = inputs(tool, cohort)
    listing = b"".join(os.fsencode(path) + b"\0" for path in sources)
    result = succeed(
        tool.name, *options(tool, cohort), "-0", "-T", "-", "-O", cohort / "out", stdin=listing
    )
    assert result.out.split("\0")[:-1] == [f"{cohort}/out/{path.name}" for path in sources]


def test_a_list_in_a_file_adds_to_the_arguments(tool, cohort):
    first, second, _ = inputs(tool, cohort)
    (cohort / "list").write_text(f"{second}\n")
    result = succeed(
        tool.name, first, "-T", cohort / "list", *options(tool, cohort), "-O", cohort / "out"
    )
    assert result.lines == [f"{cohort}/out/{first.name}", f"{cohort}/out/{second.name}"]


def test_shards_take_every_nth_of_the_sorted_inputs(tool, cohort):
    sources = inputs(tool, cohort)
    arguments = [*reversed(sources), *options(tool, cohort), "-0", "-O", cohort / "out"]
    parts = [
        succeed(tool.name, *arguments, "--shard", f"{part}/2").out.split("\0")[:-1]
        for part in (0, 1)
    ]
    expected = [f"{cohort}/out/{path.name}" for path in sorted(sources)]
    assert parts == [expected[0::2], expected[1::2]]


def test_two_inputs_of_one_output_are_refused_though_in_different_shards(tool, cohort):
    first = inputs(tool, cohort)[0]
    (cohort / "zz").mkdir()
    second = cohort / "zz" / first.name
    second.write_bytes(first.read_bytes())
    arguments = [first, second, *options(tool, cohort), "-O", cohort / "out"]
    for part in (0, 1):
        result = run(tool.name, *arguments, "--shard", f"{part}/2")
        assert result.status == 2
        assert "would both write" in result.err
    assert not (cohort / "out").exists()


def test_each_shard_of_one_input_may_have_an_output_of_its_own(tool, cohort):
    sources = sorted(inputs(tool, cohort))
    alone = [*options(tool, cohort), "-o", cohort / "alone.nii.gz"]
    succeed(tool.name, sources[1], *alone)
    of_shard = [*sources, *options(tool, cohort), "--shard", f"1/{len(sources)}", "-o"]
    succeed(tool.name, *of_shard, cohort / "shard.nii.gz")
    np.testing.assert_array_equal(load(cohort / "shard.nii.gz"), load(cohort / "alone.nii.gz"))
    result = run(tool.name, *of_shard, sources[0])
    assert result.status == 2
    assert "is an input and would be overwritten" in result.err


def test_more_shards_than_cases_is_no_error(tool, cohort):
    arguments = [inputs(tool, cohort)[0], *options(tool, cohort), "-O", cohort / "out"]
    assert succeed(tool.name, *arguments, "--shard", "7/8").out == ""


def test_nnunet_suffix_is_no_part_of_the_case_name(tool, cohort):
    source = inputs(tool, cohort)[0]
    renamed = source.with_name("plain_0000.nii.gz")
    source.rename(renamed)
    result = succeed(tool.name, renamed, *options(tool, cohort), "-O", cohort / "out")
    assert result.lines == [f"{cohort}/out/plain.nii.gz"]


# Outputs


def test_no_output_is_a_usage_error(tool, cohort):
    result = run(tool.name, inputs(tool, cohort)[0], *options(tool, cohort))
    assert result.status == 2
    assert "say where to write" in result.err


def test_one_file_for_many_inputs_is_a_usage_error(tool, cohort):
    result = run(
        tool.name, *inputs(tool, cohort), *options(tool, cohort), "-o", cohort / "x.nii.gz"
    )
    assert result.status == 2
    assert "-o takes one input, there are 3" in result.err


def test_an_output_of_another_suffix_is_a_usage_error(tool, cohort):
    result = run(tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-o", cohort / "x.mha")
    assert result.status == 2
    assert "must be named .nii.gz or .nii" in result.err


def test_an_existing_output_is_refused_and_untouched(tool, cohort):
    source, other, _ = inputs(tool, cohort)
    target = cohort / "out" / source.name
    target.parent.mkdir()
    target.write_bytes(b"precious")
    result = run(tool.name, source, other, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert problems(result) == [
        f"{tool.name}: {source}: {target} exists; -f replaces it, -s keeps it"
    ]
    assert target.read_bytes() == b"precious"
    assert result.lines == [f"{cohort}/out/{other.name}"]  # the other one is done all the same


def test_force_replaces(tool, cohort):
    source = inputs(tool, cohort)[0]
    target = cohort / "out.nii.gz"
    target.write_bytes(b"old")
    arguments = [source, *options(tool, cohort), "-o", target]
    assert succeed(tool.name, *arguments, "-f").lines == [str(target)]
    assert load(target).size > 0


def test_skip_keeps_what_was_made_with_the_same_options(tool, cohort):
    sources = inputs(tool, cohort)
    arguments = [*options(tool, cohort), "-0", "-O", cohort / "out"]
    succeed(tool.name, sources[0], *arguments)
    kept = cohort / "out" / sources[0].name
    before = kept.stat()
    result = succeed(tool.name, *sources, *arguments, "-s")
    assert result.out == "".join(f"{cohort}/out/{path.name}\0" for path in sources)
    after = kept.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_skip_refuses_what_was_made_with_other_options(tool, cohort):
    other = {
        "lnq-crop": ("--margin", "3"),
        "lnq-weaklabel": ("--values", "1"),
        "lnq-pseudolabel": ("--erode", "3"),
        "lnq-filter-diameter": ("--min-volume", "3"),
        "lnq-infer": ("--threshold", "0.4"),
    }[tool.name]
    arguments = [inputs(tool, cohort)[0], *options(tool, cohort), "-O", cohort / "out"]
    succeed(tool.name, *arguments)
    before = contents(cohort / "out")
    result = run(tool.name, *arguments, *other, "-s")
    assert result.status == 1
    assert other[0] in result.err
    assert "-f replaces it" in result.err
    assert contents(cohort / "out") == before


def digest_of(path: Path) -> str:
    content = gzip.decompress(path.read_bytes())
    return f"{zlib.crc32(content):08x}-{len(content)}"


def change_a_voxel(path: Path) -> None:
    array = load(path).copy()
    array[5, 6, 7] = array[5, 6, 7] == 0
    save(path, array, MATRIX)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_output_says_what_content_it_was_made_from(tool, cohort, jobs):
    """The checksums of each case's own files, by whatever process and thread it was made."""
    if jobs > 1 and not tool.parallel:
        pytest.skip("loads its model once: one case after the other")
    sources = inputs(tool, cohort)
    for number, path in enumerate(sorted(cohort.glob("*/*.nii.gz"))):
        image = nib.load(path)
        image.header["descrip"] = str(number)  # no two files are alike
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)
    at_once = ["-j", jobs] if tool.parallel else []
    succeed(tool.name, *sources, *options(tool, cohort), *at_once, "-O", cohort / "out")
    for source in sources:
        expected = {"input": digest_of(source)}
        if tool.companion:
            option, folder = tool.companion
            expected[option.lstrip("-")] = digest_of(cohort / folder / source.name)
        made_from = record_of(cohort / "out" / source.name)["made_from"]
        made_from.pop("model", None)
        assert made_from == expected


def record_of(path: Path) -> dict:
    contents = [e.get_content() for e in nib.load(path).header.extensions if e.get_code() == 6]
    return json.loads(contents[0].rstrip(b"\0"))


def test_skip_refuses_what_was_made_from_another_content(tool, cohort):
    sources = inputs(tool, cohort)[:2]
    arguments = [*sources, *options(tool, cohort), "-O", cohort / "out"]
    succeed(tool.name, *arguments)
    before = contents(cohort / "out")
    changed = {sources[0]: "input"}
    if tool.companion:
        option, folder = tool.companion
        changed[cohort / folder / sources[1].name] = f"{option} {cohort / folder / sources[1].name}"
    for path in changed:
        change_a_voxel(path)
    result = run(tool.name, *arguments, "-s")
    assert result.status == 1
    assert problems(result) == [
        f"{tool.name}: {source}: {cohort}/out/{source.name} exists and was made from another "
        f"{what}; -f replaces it"
        for source, what in zip(sources, changed.values(), strict=False)
    ]
    assert result.lines == [f"{cohort}/out/{path.name}" for path in sources[len(changed) :]]
    assert contents(cohort / "out") == before
    succeed(tool.name, *arguments, "-f")
    assert contents(cohort / "out") != before
    assert succeed(tool.name, *arguments, "-s").lines == [
        f"{cohort}/out/{source.name}" for source in sources
    ]


def test_skip_keeps_what_was_made_from_the_same_content_packed_otherwise(tool, cohort):
    """Two gzip members and an empty one, as bgzip writes them; then no gzip at all."""
    source = inputs(tool, cohort)[0]
    files = [source, *([cohort / tool.companion[1] / source.name] if tool.companion else [])]
    arguments = [*options(tool, cohort), "-O", cohort / "out"]
    succeed(tool.name, source, *arguments)
    before = contents(cohort / "out")
    plain = {path: gzip.decompress(path.read_bytes()) for path in files}
    for path, content in plain.items():
        parts = (content[:500], content[500:], b"")
        path.write_bytes(b"".join(gzip.compress(part, mtime=7) for part in parts))
    succeed(tool.name, source, *arguments, "-s")
    for path, content in plain.items():
        path.unlink()
        path.with_suffix("").write_bytes(content)
    succeed(tool.name, source.with_suffix(""), *arguments, "-s")
    assert contents(cohort / "out") == before


def test_skip_cannot_keep_what_was_made_from_a_file_that_is_gone(tool, cohort):
    source = inputs(tool, cohort)[0]
    arguments = [source, *options(tool, cohort), "-O", cohort / "out"]
    succeed(tool.name, *arguments)
    source.unlink()
    result = run(tool.name, *arguments, "-s")
    assert (result.status, result.out) == (1, "")
    assert problems(result) == [f"{tool.name}: {source}: cannot be read: No such file or directory"]


def without_contents(path: Path) -> None:
    """Make an output one of a version that recorded no contents."""
    image = nib.load(path)
    record = record_of(path)
    del record["made_from"]
    others = [e for e in image.header.extensions if e.get_code() != 6]
    old = nib.nifti1.Nifti1Extension(6, json.dumps(record).encode())
    image.header.extensions[:] = [old, *others]
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)


def test_skip_keeps_what_does_not_say_its_content_with_one_warning(tool, cohort):
    sources = inputs(tool, cohort)
    arguments = [*sources, *options(tool, cohort), "-0", "-O", cohort / "out"]
    succeed(tool.name, *arguments)
    for source in sources[:2]:
        without_contents(cohort / "out" / source.name)
    change_a_voxel(sources[0])
    before = contents(cohort / "out")
    result = succeed(tool.name, *arguments, "-s")
    assert result.err == (
        f"{tool.name}: warning: 2 of the outputs that were kept do not say what content they were "
        "made from, as older versions made them: -f makes them anew\n"
    )
    assert contents(cohort / "out") == before


def test_skip_compares_what_comes_on_standard_input(tool, cohort):
    first, second, _ = inputs(tool, cohort)
    arguments = [*own_options(tool, cohort), "-o", cohort / "out.nii", "-s"]
    if tool.companion:
        option, folder = tool.companion
        arguments += [option, cohort / folder / first.name]
    succeed(tool.name, "-", *arguments, stdin=first.read_bytes())
    before = (cohort / "out.nii").read_bytes()
    unpacked = gzip.decompress(first.read_bytes())
    kept = succeed(tool.name, "-", *arguments, stdin=unpacked)
    assert kept.lines == [str(cohort / "out.nii")]
    succeed(tool.name, first, *arguments)
    result = run(tool.name, "-", *arguments, stdin=second.read_bytes())
    assert result.status == 1
    assert problems(result) == [
        f"{tool.name}: -: {cohort}/out.nii exists and was made from another input; -f replaces it"
    ]
    assert (cohort / "out.nii").read_bytes() == before


def test_skip_refuses_what_another_tool_made(tool, cohort):
    source = inputs(tool, cohort)[0]
    arguments = [source, *options(tool, cohort), "-O", cohort / "out", "-s"]
    (cohort / "out").mkdir()
    shutil.copy(cohort / "truth" / source.name, cohort / "out")
    result = run(tool.name, *arguments)
    assert result.status == 1
    assert "does not say how it was made" in result.err


def test_force_and_skip_exclude_each_other(tool, cohort):
    result = run(
        tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-O", cohort / "out", "-f", "-s"
    )
    assert result.status == 2


def test_two_inputs_with_one_output_are_refused_before_any_work(tool, cohort):
    source = inputs(tool, cohort)[0]
    twin = cohort / "elsewhere" / source.name
    twin.parent.mkdir()
    shutil.copy(source, twin)
    third = inputs(tool, cohort)[1]
    result = run(tool.name, third, source, twin, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 2
    assert str(source) in result.err
    assert str(twin) in result.err
    assert not (cohort / "out").exists()


def test_an_input_is_never_overwritten(tool, cohort):
    source = inputs(tool, cohort)[0]
    before = source.read_bytes()
    for where in (("-o", source), ("-O", source.parent)):
        result = run(tool.name, source, *options(tool, cohort), *where, "-f")
        assert result.status == 2
        assert "would be overwritten" in result.err
        assert source.read_bytes() == before


def test_a_companion_is_never_overwritten(tool, cohort):
    companion = cohort / tool.companion[1] / "plain.nii.gz"
    before = companion.read_bytes()
    result = run(tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-o", companion, "-f")
    assert result.status == 1
    assert "would overwrite" in result.err
    assert companion.read_bytes() == before


def test_an_output_directory_that_is_a_file_is_a_usage_error(tool, cohort):
    (cohort / "out").write_text("a file")
    result = run(tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 2
    assert "is not a directory" in result.err


def test_uncompressed_outputs_hold_the_same_image(tool, cohort):
    arguments = [inputs(tool, cohort)[0], *options(tool, cohort), "-O", cohort / "out"]
    succeed(tool.name, *arguments)
    assert succeed(tool.name, *arguments, "--nii").lines == [f"{cohort}/out/plain.nii"]
    np.testing.assert_array_equal(
        load(cohort / "out" / "plain.nii"), load(cohort / "out" / "plain.nii.gz")
    )


def test_same_inputs_and_options_give_the_same_bytes(tool, cohort):
    for folder in ("out", "again"):
        arguments = [*inputs(tool, cohort), *options(tool, cohort), "-O", cohort / folder]
        succeed(tool.name, *arguments, anew=tool.name == WHOLE)
    assert contents(cohort / "out") == contents(cohort / "again")


def test_two_jobs_give_what_one_gives(tool, cohort):
    if not tool.parallel:
        pytest.skip("loads its model once: one case after the other")
    missing = cohort / tool.inputs / "missing.nii.gz"
    arguments = [*inputs(tool, cohort), missing, *options(tool, cohort), "-0"]
    one = run(tool.name, *arguments, "-O", "out", cwd=cohort, anew=tool.name == WHOLE)
    (cohort / "out").rename(cohort / "one")
    two = run(tool.name, *arguments, "-O", "out", "-j", "2", cwd=cohort, anew=tool.name == WHOLE)
    assert one == two
    assert contents(cohort / "one") == contents(cohort / "out")


def test_nothing_else_is_left_beside_the_outputs(tool, cohort):
    arguments = [*inputs(tool, cohort), cohort / "missing.nii.gz", *options(tool, cohort)]
    run(tool.name, *arguments, "-O", cohort / "out")
    assert sorted(contents(cohort / "out")) == sorted(f"{name}.nii.gz" for name in NAMES)


# Errors


def test_a_missing_file_does_not_stop_the_others(tool, cohort):
    first, second, _ = inputs(tool, cohort)
    missing = cohort / tool.inputs / "nowhere.nii.gz"
    result = run(tool.name, first, missing, second, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert result.lines == [f"{cohort}/out/{first.name}", f"{cohort}/out/{second.name}"]
    assert problems(result) == [
        f"{tool.name}: {missing}: cannot be read: No such file or directory"
    ]


def test_a_damaged_file_does_not_stop_the_others(tool, cohort):
    first, second, _ = inputs(tool, cohort)
    first.write_bytes(first.read_bytes()[:-20])
    result = run(tool.name, first, second, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert result.lines == [f"{cohort}/out/{second.name}"]
    assert f"{tool.name}: {first}: " in result.err
    assert list(contents(cohort / "out")) == [second.name]


def test_a_folder_without_images_does_not_stop_the_others(tool, cohort):
    (cohort / "empty").mkdir()
    (cohort / "empty" / "notes.txt").write_text("no image")
    (cohort / "deep" / "case1").mkdir(parents=True)
    shutil.copy(inputs(tool, cohort)[0], cohort / "deep" / "case1" / "ct.nii.gz")
    places = [cohort / "empty", cohort / "deep", inputs(tool, cohort)[0]]
    result = run(tool.name, *places, *options(tool, cohort), "-O", cohort / "out")
    assert (result.status, result.lines) == (1, [f"{cohort}/out/plain.nii.gz"])
    none = "is a directory without images (.nii.gz, .nii, .nrrd, .mha, ...)"
    assert problems(result) == [
        f"{tool.name}: {cohort}/empty: {none}",
        f"{tool.name}: {cohort}/deep: {none}; --case-pattern '([^/]+)/[^/]*$' takes those of its "
        "folders",
    ]


def test_a_line_end_in_a_name_stays_one_line_of_message(tool, cohort):
    source = inputs(tool, cohort)[2]
    source.write_bytes(b"no image")
    result = run(tool.name, source, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert "line\\nend.nii.gz: " in result.err


def test_an_unknown_option_is_a_usage_error_in_one_line(tool, cohort):
    result = run(tool.name, "--no-such-option", anew=tool.name == WHOLE)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "--no-such-option" in result.err


# Companions


def test_a_missing_companion_names_case_and_place(tool, cohort):
    option, folder = tool.companion
    (cohort / folder / "plain.nii.gz").unlink()
    first, second, _ = inputs(tool, cohort)
    result = run(tool.name, first, second, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert f"{first}: has no companion named plain in {option} {cohort / folder}" in result.err
    assert result.lines == [f"{cohort}/out/{second.name}"]


def test_an_ambiguous_companion_names_both(tool, cohort):
    folder = cohort / tool.companion[1]
    shutil.copy(folder / "plain.nii.gz", folder / "plain_0000.nii.gz")
    result = run(tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert "plain.nii.gz and plain_0000.nii.gz" in result.err


def test_a_companion_on_another_grid_is_an_error_that_says_how(tool, cohort):
    path = cohort / tool.companion[1] / "plain.nii.gz"
    shifted = affine((1.5, 1.5, 2.0), (10.9, -20.0, 30.0))
    save(path, load(path), shifted)
    source = inputs(tool, cohort)[0]
    result = run(tool.name, source, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert "0.9 mm apart" in result.err or "does not cover the image" in result.err
    assert str(path) in result.err
    assert contents(cohort / "out") == {}
    save(path, load(path), affine((1.6, 1.5, 2.0), (10.0, -20.0, 30.0)))
    result = run(tool.name, source, *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 1
    assert "their spacings are 1.5 × 1.5 × 2 and 1.6 × 1.5 × 2 mm" in result.err or (
        "their spacings are 1.6 × 1.5 × 2 and 1.5 × 1.5 × 2 mm" in result.err
    )
    assert f"; lnq-crop --label --like {source} {path} -o FILE interpolates" in result.err


def test_a_companion_within_half_a_voxel_or_stored_otherwise_is_taken_one_to_one(tool, cohort):
    source, path = inputs(tool, cohort)[0], cohort / tool.companion[1] / "plain.nii.gz"
    arguments = [source, *options(tool, cohort)]
    succeed(tool.name, *arguments, "-o", cohort / "plain.nii")
    image = nib.load(path)
    half = image.affine.copy()
    half[:3, 3] += (0.7, -0.7, 0.9)  # of 1.5, 1.5 and 2 mm
    order = nib.orientations.axcodes2ornt("SRA")
    other = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), order)
    )
    both = nib.Nifti1Image(np.asanyarray(other.dataobj), other.affine)
    both.affine[2, 3] += 0.5
    near = r"its voxels lie up to {} of a voxel off those of the image"
    cases = [
        (nib.Nifti1Image(np.asanyarray(image.dataobj), half), near.format("0.47")),
        (other, "its voxels are stored in another order"),
        (
            nib.Nifti1Image(np.asanyarray(both.dataobj), both.affine),
            f"{near.format('0.25')} and are stored in another order",
        ),
    ]
    for number, (stored, odd) in enumerate(cases):
        nib.save(stored, path)
        result = succeed(tool.name, *arguments, "-o", cohort / f"{number}.nii")
        assert f"warning: {tool.companion[0]} {path}: {odd}: they were taken one" in result.err
        np.testing.assert_array_equal(load(cohort / f"{number}.nii"), load(cohort / "plain.nii"))


def test_one_companion_file_serves_every_case(tool, cohort):
    option, folder = tool.companion
    one = cohort / folder / "plain.nii.gz"
    arguments = [*own_options(tool, cohort), option, one, "-O", cohort / "out"]
    assert len(succeed(tool.name, *inputs(tool, cohort)[:2], *arguments).lines) == 2


@pytest.mark.parametrize("how", ["itself", "spelled otherwise", "symlink", "hard link"])
def test_a_companion_is_not_the_input_itself(tool, cohort, how):
    """Neither where it is named nor where it is found."""
    option, folder = tool.companion
    source = inputs(tool, cohort)[0]
    place = cohort / "linked"
    place.mkdir()
    if how == "symlink":
        (place / source.name).symlink_to(source)
    elif how == "hard link":
        (place / source.name).hardlink_to(source)
    else:
        place = source.parent if how == "itself" else cohort / folder / ".." / tool.inputs
    companion = place / source.name
    arguments = [source, *own_options(tool, cohort), "-O", cohort / "out", option]
    named = run(tool.name, *arguments, companion)
    assert (named.status, named.out) == (1, "")
    assert problems(named) == [
        f"{tool.name}: {source}: {option} {companion} is the input itself: a companion is another "
        "image"
    ]
    found = run(tool.name, *arguments, place)
    assert (found.status, found.out) == (1, "")
    assert problems(found) == [
        f"{tool.name}: {source}: has no companion named plain in {option} {place}: the only image "
        "of that name there is the input itself"
    ]
    assert contents(cohort / "out") == {}


# Streams


def test_image_in_on_stdin_and_out_on_stdout(tool, cohort):
    source = inputs(tool, cohort)[0]
    companion = []
    if tool.companion:
        companion = [tool.companion[0], cohort / tool.companion[1] / source.name]
    arguments = [*own_options(tool, cohort), *companion]
    succeed(tool.name, source, *arguments, "-o", cohort / "file.nii")
    line = shlex.join([tool.name, "-", *map(str, arguments), "-o", "-"])
    pipe = f"cat {shlex.quote(str(source))} | {line} | cat >piped"
    assert shell(pipe, cohort, forked=tool.name != WHOLE).status == 0
    assert (cohort / "piped").read_bytes() == (cohort / "file.nii").read_bytes()


def test_stdin_cannot_be_read_twice(tool, cohort):
    result = run(tool.name, "-", "-T", "-", *options(tool, cohort), "-O", cohort / "out")
    assert result.status == 2
    assert "standard input" in result.err


def test_quiet_says_nothing_but_errors(tool, cohort):
    arguments = [*inputs(tool, cohort), *options(tool, cohort), "-q", "-O", cohort / "out"]
    assert succeed(tool.name, *arguments, anew=tool.name == WHOLE).err == ""


def many_cases(tool: Tool, cohort: Path, count: int) -> Path:
    """Write a list of many names for one input."""
    source = inputs(tool, cohort)[0]
    for kind in {tool.inputs, *(tool.companion[1:] if tool.companion else ())}:
        original = (cohort / kind / source.name).read_bytes()
        for number in range(count):
            (cohort / kind / f"many{number:03}.nii.gz").write_bytes(original)
    listing = cohort / "many"
    paths = [cohort / tool.inputs / f"many{number:03}.nii.gz" for number in range(count)]
    listing.write_text("".join(f"{path}\n" for path in paths))
    return listing


def test_a_closed_pipe_ends_the_tool_by_sigpipe_quietly(tool, cohort):
    arguments = [*inputs(tool, cohort), *options(tool, cohort), "-q", "-O", "out"]
    assert end_without_reader(tool.name, *arguments, cwd=cohort) == QUIETLY_BY_SIGPIPE
    assert list(contents(cohort / "out")) == ["plain.nii.gz"]


def test_a_closed_standard_output_is_said_before_any_work(tool, cohort):
    arguments = [BIN / tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-O", "out"]
    result = shell(f"{shlex.join(map(str, arguments))} >&-", cohort)
    assert result.status == 1
    assert result.err.startswith(f"{tool.name}: standard output is closed")
    assert not (cohort / "out").exists()


def test_a_full_standard_output_is_an_error(tool, cohort):
    arguments = [BIN / tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-q"]
    result = shell(f"{shlex.join(map(str, arguments))} -O out >/dev/full", cohort)
    assert result.status == 1
    assert result.err.startswith(f"{tool.name}: cannot write the results: No space left")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_a_full_standard_output_does_not_take_is_an_error(tool, option, tmp_path):
    result = shell(f"{BIN / tool.name} {option} >/dev/full", tmp_path)
    assert (result.status, result.lines) == (1, [])
    assert result.err == f"{tool.name}: cannot write the results: No space left on device\n"


def test_lists_of_the_other_kind_are_told(tool, cohort):
    sources = list(map(bytes, inputs(tool, cohort)))
    arguments = [*options(tool, cohort), "-O", cohort / "out", "-T", "-"]
    nul_ended = run(tool.name, *arguments, stdin=b"\0".join(sources))
    assert nul_ended.status == 2
    assert "say -0, too" in nul_ended.err
    lines = run(tool.name, *arguments, "-0", stdin=b"\n".join(sources[:2]) + b"\n")
    assert lines.status == 2
    assert "leave out -0" in lines.err


@pytest.mark.parametrize(
    ("signum", "jobs"),
    [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGHUP, 1)],
)
def test_a_signal_ends_the_tool_by_that_signal_and_leaves_no_part(tool, cohort, signum, jobs):
    ends_by_a_signal(tool, cohort, signum, jobs)


def test_ctrl_c_ends_a_running_network(tool, cohort):
    ends_by_a_signal(tool, cohort, signal.SIGINT, 1)


def ends_by_a_signal(tool: Tool, cohort: Path, signum: int, jobs: int) -> None:
    """Send a signal amid many cases: whole images are left, and the same command goes on."""
    count = 120 if tool.parallel else 30
    listing = many_cases(tool, cohort, count)
    out = cohort / "out"
    at_once = ["-j", str(jobs)] if tool.parallel else []
    reader, writer = os.pipe()  # nobody reads: the tool cannot end before the signal comes
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [str(BIN / tool.name), "-T", listing, *options(tool, cohort), "-q", "-O", out, *at_once],
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    while not any(out.glob("*.nii.gz")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signum)
    assert process.wait() == -signum
    os.close(reader)
    assert process.stderr.read() == b""
    names = sorted(path.name for path in out.iterdir())
    assert 0 < len(names) < count
    for name in names:
        assert load(out / name).size > 0
    arguments = ["-T", listing, *options(tool, cohort), "-q", "-O", out, "-s"]
    assert len(succeed(tool.name, *arguments).lines) == count  # the same command goes on


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(tool, cohort, signum):
    """As under nohup, and in the background of a script."""
    process = subprocess.Popen(
        [str(BIN / tool.name), *inputs(tool, cohort), *options(tool, cohort), "-q", "-O", "out"],
        stdout=subprocess.DEVNULL,
        cwd=cohort,
        preexec_fn=lambda: signal.signal(signum, signal.SIG_IGN),
    )
    while process.poll() is None:
        process.send_signal(signum)
        time.sleep(0.01)
    assert process.returncode == 0
    assert len(contents(cohort / "out")) == len(NAMES)


def test_killed_outright_it_leaves_nothing_that_the_next_run_does_not_mend(tool, cohort):
    listing = many_cases(tool, cohort, 40)
    out = cohort / "out"
    arguments = ["-T", listing, *options(tool, cohort), "-q", "-O", out]
    process = subprocess.Popen([str(BIN / tool.name), *arguments], stdout=subprocess.DEVNULL)
    while not any(out.glob("*.nii.gz")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    stale = out / f".case.nii.gz.{socket.gethostname()}.{process.pid}.tmp"
    stale.write_bytes(b"part of an image")
    foreign = out / f".case.nii.gz.another-host.{process.pid}.tmp"
    foreign.write_bytes(b"part of another's image")
    succeed(tool.name, *arguments, "-s")
    after = contents(out)
    assert after.pop(foreign.name) == b"part of another's image"
    succeed(tool.name, *arguments[:-1], cohort / "undisturbed")
    assert after == contents(cohort / "undisturbed")


# Grids


def test_an_image_of_another_type_of_voxel_keeps_its_place(tool, cohort):
    """The output lies where the input lies, also for a mirrored and turned image."""
    matrix = MATRIX.copy()
    matrix[:3, :3] = matrix[:3, [1, 0, 2]] * [1, -1, 1]
    for kind in {tool.inputs, *(tool.companion[1:] if tool.companion else ())}:
        path = cohort / kind / "plain.nii.gz"
        array = load(path)
        save(path, np.ascontiguousarray(array), matrix)
    succeed(tool.name, inputs(tool, cohort)[0], *options(tool, cohort), "-o", cohort / "turned.nii")
    from lnqtools.images.grid import cut_out
    from lnqtools.images.volume import read_volume

    source, made = read_volume(inputs(tool, cohort)[0]), read_volume(cohort / "turned.nii")
    part = cut_out(source.array, source.grid, made.grid)
    assert part.shape == made.array.shape
    if tool.crops:
        np.testing.assert_array_equal(part, made.array)
    else:
        assert made.array.shape == SHAPE
