"""No call to another machine, no code from data or names, nothing for others to read or plant."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import yaml

from tests.conftest import BIN, ROOT, environment, save
from tests.every_tool import (
    CANARY,
    CONTROL,
    HOSTILE,
    NOT_TEXT,
    TRAINING,
    Call,
    Ended,
    anatomy_call,
    begin,
    hostile_cohort,
    light_calls,
    network_calls,
    refuse_network,
    wrong_with,
)
from tests.nnunet_data import Trap, random_model
from tests.suite import COMMANDS, TOOLS
from torture.rows import Row

PLAIN = ("a", "b")
INTERNET = re.compile(r"sa_family=AF_INET6?\b")
NO_NETWORK = ("unshare", "--net", "--map-root-user")
"""Runs a command where there is no network, not even to this machine."""
TRACED = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=%network", "-o")


def torture(folder: Path, scale: float) -> Iterator[Row]:
    """Run each part in a folder of its own; all of it is small, whatever the scale."""
    parts: tuple[Callable[[Path], Iterator[Row]], ...] = (
        calls_to_other_machines,
        helps,
        names_in_tools,
        names_in_examples,
        code_in_models,
        archives,
        bombs,
        permissions,
        planted_links,
        read_only_tmp,
        terminals,
    )
    for part in parts:
        (folder / part.__name__).mkdir()
        yield from part(folder / part.__name__)


def every_call(names: Sequence[str], model: str = "a") -> list[Call]:
    return [*light_calls(names, model), *network_calls(names), anatomy_call(names)]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weights_for(folder: Path) -> dict[str, str]:
    """Write stand-ins for TotalSegmentator's weights; return the variables that name them."""
    from tests.totalseg_data import write_surrogate_weights

    (folder / "weights").mkdir()
    (folder / "home").mkdir()
    write_surrogate_weights(folder / "weights", [297])
    places = {"TOTALSEG_WEIGHTS_PATH": folder / "weights", "TOTALSEG_HOME_DIR": folder / "home"}
    return {name: str(place) for name, place in places.items()}


# The network


def calls_to_other_machines(folder: Path) -> Iterator[Row]:
    """Run all tools without network, with every attempt to use one written down."""
    variables = weights_for(folder)
    cohort = hostile_cohort(folder / "cohort", PLAIN)
    trace = shutil.which("strace") is not None
    wrong, calls = [], every_call(PLAIN)
    if trace and not any(map(is_a_call, lines_of_a_call(folder / "control.log"))):
        wrong.append("strace does not show what a process that calls out does")
    for number, call in enumerate(calls):
        log = folder / f"{number}.log"
        log.touch()
        before = (*NO_NETWORK, *((*TRACED, str(log)) if trace else ()))
        ended = begin(call, cohort, variables, before)
        wrong += wrong_with(call, ended, cohort)
        reached = [line for line in log.read_text().splitlines() if is_a_call(line)]
        wrong += [f"{call.tool} reaches for the network: {line}" for line in reached[:3]]
    tools = {call.tool for call in calls}
    wrong += [f"{tool} was not run" for tool in TOOLS if tool not in tools]
    how = "all system calls for the network written down"
    if not trace:
        yield Row(how, f"all {len(tools)} tools", 0, "skipped: strace is not installed")
    yield Row(
        f"run in a network namespace that has no network{f', {how}' * trace}",
        f"all {len(tools)} tools",
        len(calls),
        f"all work{'; no connection or name asked for' * trace}",
        tuple(wrong),
    )

    variables |= refuse_network(folder)[0]
    shutil.rmtree(cohort / "out")
    wrong = []
    for call in calls:
        wrong += wrong_with(call, begin(call, cohort, variables), cohort)
    log = (folder / "network").read_text().splitlines()
    wrong += [line for line in log if line != "watched"]
    yield Row(
        "each Python process refuses connections and look-ups, and notes them",
        f"all {len(tools)} tools",
        len(calls),
        f"{log.count('watched')} processes watched, none tried",
        tuple(wrong),
    )


def lines_of_a_call(log: Path) -> list[str]:
    """Return what strace writes of a process that calls out."""
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9))\nexcept OSError: pass"
    command = [*NO_NETWORK, *TRACED, str(log), sys.executable, "-c", code]
    subprocess.run(command, check=True, capture_output=True)
    return log.read_text().splitlines()


def is_a_call(line: str) -> bool:
    """Tell whether a line of strace's is about another machine; a socket alone reaches none."""
    return INTERNET.search(line) is not None and "bind(" not in line


def helps(folder: Path) -> Iterator[Row]:
    """Ask every command for its help and version."""
    variables, place = refuse_network(folder)
    wrong = []
    for name in COMMANDS:
        tool, *inner = name.split()
        ended = begin(Call(tool, (*inner, "--help")), folder, variables)
        wrong += wrong_with(Call(tool, ("--help",)), ended, folder)
    for tool in TOOLS:
        ended = begin(Call(tool, ("--version",)), folder, variables)
        wrong += wrong_with(Call(tool, ("--version",)), ended, folder)
    log = place.read_text().splitlines()
    wrong += [line for line in log if line != "watched"]
    yield Row(
        "--help and --version, connections and look-ups refused",
        f"all {len(COMMANDS)} commands",
        log.count("watched"),
        "no attempt",
        tuple(wrong),
    )


# Names


def names_in_tools(folder: Path) -> Iterator[Row]:
    """Give every tool cases, models and titles of hostile names."""
    variables = weights_for(folder)
    names = (*HOSTILE, NOT_TEXT)
    cohort = hostile_cohort(folder / "cohort", names)
    wrong, calls = [], [*light_calls(names, HOSTILE[0]), anatomy_call(names)]
    for call in calls:
        wrong += wrong_with(call, begin(call, cohort, variables), cohort)
    train, infer = network_calls(names)
    refused = begin(train, cohort)
    if refused.status != 1 or "it is not UTF-8" not in refused.err or CONTROL & {*refused.err}:
        wrong.append(f"lnq-train of a name that is not UTF-8: {refused.err[-200:]!r}")
    for kind in ("ct", "label"):
        (cohort / kind / f"{NOT_TEXT}.nii.gz").unlink()
    train, infer = network_calls(HOSTILE)
    for call in (train, infer):
        wrong += wrong_with(call, begin(call, cohort), cohort)
    wrong += [f"{path} was made by a name" for path in cohort.iterdir() if is_odd(path)]
    count = len(calls) + 2
    yield Row(
        f"{len(names)} names as `$(touch x)`, `;`, `*`, `--help`, escape codes, line ends, "
        "bytes that are not text",
        f"all {len(TOOLS)} tools",
        count * len(names),
        "none run as a command, none on a terminal's line as it is; every output has its name; "
        "lnq-train refuses what is not UTF-8",
        tuple(wrong),
    )


def is_odd(path: Path) -> bool:
    """Tell whether a folder of the cohort came from something else than the calls."""
    known = ("ct", "ann", "label", "tumour", "lungs", "ts", "truth", "probability", "disc", "out")
    return path.name not in known


def names_in_examples(folder: Path) -> Iterator[Row]:
    """Run the examples' scripts on hostile cases, in hostile folders."""
    one_line = [name for name in HOSTILE if "\n" not in name]
    for part in (steps_by_xargs, data_recipe, demo_until_training, workflow):
        place = folder / f"{part.__name__} $(touch {CANARY}) '\"; x"
        place.mkdir()
        tried, wrong = part(place, one_line)
        wrong += [f"{path} was made by a name" for path in folder.rglob(CANARY)]
        where = {
            "steps_by_xargs": "examples/slurm/steps.sh",
            "data_recipe": "examples/data/lnq2023.sh",
            "demo_until_training": "examples/demo.sh, self-training.sh",
            "workflow": "examples/ablation/Snakefile",
        }[part.__name__]
        yield Row(
            "the same names of cases, and of the folder they are in",
            where,
            tried,
            "none run as a command",
            tuple(wrong),
        )


def script(*words: str | Path, cwd: Path, path: str = "") -> Ended:
    """Run a script with the installed tools on the PATH."""
    variables = {
        **environment(),
        "PATH": f"{path}{BIN}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=variables, capture_output=True, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace"))


def study(folder: Path, names: Sequence[str]) -> Path:
    """Lay out the folders of a cohort ``weak`` as the ablation wants them."""
    made = hostile_cohort(folder / "made", names)
    data = folder / "data"
    for source, target in (("ct", "ct"), ("ann", "annotations"), ("lungs", "anatomy")):
        (data / "weak" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made / source, data / "weak" / target)
    for source, target in (("ct", "ct"), ("truth", "truth"), ("lungs", "anatomy")):
        shutil.copytree(made / source, data / "test" / target)
    return data


def steps_by_xargs(folder: Path, names: Sequence[str]) -> tuple[int, list[str]]:
    """Crop and label with steps.sh, as submit.sh's arrays and parallel.sh do."""
    data = study(folder, [*names, NOT_TEXT])
    settings = folder / "settings.sh"
    settings.write_text(
        "data=data\nout=out\nlungs=anatomy\nshards=1\ncores=1\nfolds=(all)\n"
        'labels="weak mask annotations - --strategy mask"\nmodels="1 weak/mask"\n'
    )
    wrong = []
    for step in ("crop", "labels"):
        steps = ROOT / "examples" / "slurm" / "steps.sh"
        ended = script(steps, settings, step, "0", cwd=folder)
        if ended.status != 0:
            wrong.append(f"steps.sh {step}: status {ended.status}: {ended.err[-300:]!r}")
    made = {path.name for path in (folder / "out" / "labels" / "weak" / "mask" / "weak").iterdir()}
    if made != {path.name for path in (data / "weak" / "ct").iterdir()}:
        wrong.append(f"{len(made)} labels of {len(names) + 1} cases")
    return len(names) + 1, wrong


def data_recipe(folder: Path, names: Sequence[str]) -> tuple[int, list[str]]:
    """Convert CTs of hostile names; those that find treats as a pattern may fail, not run."""
    import SimpleITK as sitk

    image = np.random.default_rng(0).integers(-900, 900, (8, 9, 10)).astype(np.int16)
    (folder / "lnq").mkdir()
    for name in names:
        for kind, array in (("ct", image), ("seg", (image > 0).astype(np.uint8))):
            with suppress(RuntimeError):  # a name that SimpleITK cannot write
                path = folder / "lnq" / f"{name[:200]}-{kind}.nrrd"
                sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    ended = script(ROOT / "examples" / "data" / "lnq2023.sh", "lnq", "out", cwd=folder)
    made = list((folder / "out" / "test" / "truth").glob("*.nii.gz"))
    wrong = [] if made else [f"no mask was made: {ended.err[-300:]!r}"]
    return len(names), wrong


def demo_until_training(folder: Path, names: Sequence[str]) -> tuple[int, list[str]]:
    """Run the demos into hostile folders, up to where they would train."""
    (folder / "bin").mkdir()
    stub = folder / "bin" / "lnq-train"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >&2\nexit 7\n')
    stub.chmod(0o755)
    outs = [f"$(touch {CANARY})", f"a b;touch {CANARY}"]
    wrong = []
    for name in ("demo.sh", "self-training.sh"):
        for out in outs:
            target = f"{name} {out}"
            ended = script(ROOT / "examples" / name, target, cwd=folder, path=f"{stub.parent}:")
            labels = list((folder / target).rglob("labels/*.nii.gz"))
            if ended.status != 7 or not labels:
                wrong.append(f"{name}: status {ended.status}: {ended.err[-300:]!r}")
    return 2 * len(outs), wrong


def workflow(folder: Path, names: Sequence[str]) -> tuple[int, list[str]]:
    """Run the workflow up to the labels; some names it takes not, and says so (test_ablation)."""
    names = [name for name in names if not {"\\", "\r"} & set(name)]
    data = study(folder, names)
    settings = yaml.safe_load((ROOT / "examples" / "ablation" / "config.yaml").read_text())
    weak = {
        "ct": f"{data}/weak/ct",
        "anatomy": f"{data}/weak/anatomy",
        "labels": {
            "mask": {
                "annotations": f"{data}/weak/annotations",
                "weaklabel": "--strategy mask",
                "pseudolabel": "--classes v2",
            }
        },
    }
    settings |= {
        "out": f"out $(touch {CANARY})",
        "lungs": "anatomy",
        "cohorts": {"weak": weak},
        "test": {
            "ct": f"{data}/test/ct",
            "truth": f"{data}/test/truth",
            "anatomy": f"{data}/test/anatomy",
        },
        "models": {"1": {"weak": "mask"}},
        "overlap": [],
    }
    (folder / "my.yaml").write_text(yaml.safe_dump(settings))
    local = ROOT / "examples" / "ablation" / "profiles" / "local"
    ended = script(
        *(
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            ROOT / "examples" / "ablation" / "Snakefile",
        ),
        *("--configfile", "my.yaml", "--profile", local, "--until", "training_set"),
        cwd=folder,
    )
    made = list((folder / settings["out"] / "sets" / "weak" / "mask" / "labels").glob("*"))
    if ended.status != 0 or len(made) != len(names):
        return len(names), [f"status {ended.status}, {len(made)} labels: {ended.err[-600:]!r}"]
    return len(names), []


# Code from data


def code_in_models(folder: Path) -> Iterator[Row]:
    """Read models, checkpoints and prepared cases that would run code."""
    import torch

    cohort = hostile_cohort(folder / "cohort", PLAIN)
    (cohort / "out").mkdir()
    model = random_model(cohort / "out" / "model")
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    whole = torch.load(checkpoint, weights_only=False)
    _, infer = network_calls(PLAIN)
    wrong, tried = [], 0
    trap = folder / "made by a pickle"
    disguises: tuple[tuple[str, Callable[[], object]], ...] = (
        ("among the values", lambda: torch.save(whole | {"logging": Trap(trap)}, checkpoint)),
        ("as the file", lambda: checkpoint.write_bytes(pickle.dumps(Trap(trap)))),
        (
            "in torch's old form",
            lambda: torch.save({"x": Trap(trap)}, checkpoint, _use_new_zipfile_serialization=False),
        ),
    )
    for what, disguise in disguises:
        disguise()
        tried += 1
        ended = begin(infer, cohort)
        if trap.exists() or ended.status != 1 or "out/model: checkpoint_final.pth" not in ended.err:
            wrong.append(f"lnq-infer, {what}: status {ended.status}: {ended.err[-200:]!r}")
    yield Row(
        "a checkpoint whose pickle runs code",
        "lnq-infer -m",
        tried,
        "refused, nothing run; --trust-model is for those one trusts",
        tuple(wrong),
    )

    wrong, tried = [], 0
    options = ("--images", "ct", "--labels", "label", *TRAINING, "-m", "out/trained")
    begun = Call("lnq-train", (*options, "--keep-preprocessed"))
    wrong += wrong_with(begun, begin(begun, cohort), cohort)
    again = Call("lnq-train", (*options, "-s", "--keep-preprocessed"))
    fold = cohort / "out" / "trained" / "fold_all"
    latest = fold / "checkpoint_latest.pth"
    (fold / "checkpoint_final.pth").rename(latest)
    whole = torch.load(latest, weights_only=False)
    prepared = sorted((cohort / "out" / "trained").rglob("*.pkl"))
    for spoil in (
        lambda: torch.save(whole | {"logging": Trap(trap)}, latest),
        lambda: [path.write_bytes(pickle.dumps(Trap(trap))) for path in prepared],
    ):
        spoil()
        tried += 1
        ended = begin(again, cohort)
        if trap.exists() or ended.status != 1 or not prepared:
            wrong.append(f"lnq-train -s: status {ended.status}: {ended.err[-200:]!r}")
        torch.save(whole | {"current_epoch": 0}, latest)
    yield Row(
        "a training to resume whose checkpoint, or a prepared case of it, runs code",
        "lnq-train -s",
        tried,
        "refused, nothing run",
        tuple(wrong),
    )


def archives(folder: Path) -> Iterator[Row]:
    """Give lnq-infer archives that would write elsewhere or fill the disk."""
    cohort = hostile_cohort(folder / "cohort", PLAIN)
    model = random_model(folder / "model")
    zeros = bytes(200 << 20)
    members: dict[str, Callable[[zipfile.ZipFile], None]] = {
        "../plans.json": lambda z: z.writestr("../plans.json", "{}"),
        "/tmp/plans.json": lambda z: z.writestr("/tmp/plans.json", "{}"),
        "C:/plans.json": lambda z: z.writestr("C:/plans.json", "{}"),
        "a link": lambda z: z.writestr(link_to("/etc"), "/etc"),
        "200 MB of zeros": lambda z: z.writestr("m/fold_1/checkpoint_final.pth", zeros),
        "200 MB of plans": lambda z: z.writestr("m/x/plans.json", zeros),
    }
    wrong = []
    for what, add in members.items():
        archive = cohort / "m.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for path in (p for p in model.rglob("*") if p.is_file()):
                opened.write(path, Path("m") / path.relative_to(model))
            add(opened)
        call = Call("lnq-infer", ("-0", "-T", "-", "-m", "m.zip", "-O", "out/x"), ("ct/a.nii.gz",))
        with TemporaryDirectory() as scratch:
            ended = begin(call, cohort, {"TMPDIR": scratch})
            left = names_in(Path(scratch))
        if ended.status != 1 or "do not trust it" not in ended.err or left:
            wrong.append(f"{what}: status {ended.status}, left {left}: {ended.err[-200:]!r}")
    yield Row(
        "a model's archive with `../`, absolute names, links, 200 MB in 200 kB",
        "lnq-infer -m",
        len(members),
        "refused before anything is unpacked; nothing left",
        tuple(wrong),
    )


def link_to(target: str) -> zipfile.ZipInfo:
    """Return a member that is a link."""
    member = zipfile.ZipInfo("m/fold_0")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


BOMB_SHAPE = (1000, 2000, 2000)
BOMB_LIMIT_BYTES = 3 << 30


def bombs(folder: Path) -> Iterator[Row]:
    """Give a tool an image that grows to 8 GB, between good ones, where 3 GB may be had."""
    cohort = hostile_cohort(folder / "cohort", ("a", "b", "c"))
    write_bomb(cohort / "ann" / "b.nii.gz")
    inputs = tuple(f"ann/{name}.nii.gz" for name in "abc")
    before = (sys.executable, "-c", LIMIT, str(BOMB_LIMIT_BYTES))
    begins, wrong = "lnq-filter-diameter: ann/b.nii.gz: ", []
    for jobs in ("1", "2"):
        options = ("-0", "-T", "-", "--min", "2", "-j", jobs, "-O", f"out/{jobs}")
        ended = begin(Call("lnq-filter-diameter", options, inputs), cohort, before=before)
        (line, *more) = ended.err.splitlines() or [""]
        told = line.startswith(begins) and "memory" in line and "unexpected" not in line
        made = names_in(cohort / "out" / jobs)
        if ended.status != 1 or not told or more or made != ["a.nii.gz", "c.nii.gz"]:
            wrong.append(f"-j {jobs}: status {ended.status}, made {made}: {ended.err[-300:]!r}")
    size = (cohort / "ann" / "b.nii.gz").stat().st_size
    yield Row(
        f"an image of {size / 1e6:.0f} MB that is 8 GB of zeros, between two good ones, where a "
        "process may have 3 GB (RLIMIT_AS)",
        "lnq-filter-diameter, -j 2",
        2,
        "one line about it, status 1; the other two done",
        tuple(wrong),
    )


LIMIT = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def write_bomb(path: Path) -> None:
    """Write an image of zeros, as one compressed member again and again."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(BOMB_SHAPE[::-1])
    header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), 1)
    header["vox_offset"] = 352
    slices, rows, columns = BOMB_SHAPE
    zeros = gzip.compress(bytes(2 * rows * columns))
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + slices * zeros)


# Other users of the machine


def permissions(folder: Path) -> Iterator[Row]:
    """Look at the modes and the group of all that the tools write."""
    variables = weights_for(folder)
    for umask, file_mode, folder_mode in ((0o022, 0o644, 0o755), (0o077, 0o600, 0o700)):
        cohort = hostile_cohort(folder / f"cohort {umask:o}", PLAIN)
        wrong, checked = [], 0
        before = (sys.executable, "-c", UMASK, str(umask))
        for call in every_call(PLAIN):
            wrong += wrong_with(call, begin(call, cohort, variables, before), cohort)
        for path in (cohort / "out").rglob("*"):
            checked += 1
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode != (folder_mode if path.is_dir() else file_mode):
                wrong.append(f"{path.relative_to(cohort)} has mode {mode:o}")
        yield Row(
            f"umask {umask:03o}",
            f"all {len(TOOLS)} tools",
            checked,
            f"all files {file_mode:o}, all folders {folder_mode:o}",
            tuple(wrong),
        )

    setgid = "a folder that hands on its group (setgid)"
    groups = [group for group in (*os.getgroups(), 12345) if group != os.getegid()]
    cohort = hostile_cohort(folder / "cohort setgid", PLAIN)
    (cohort / "out").mkdir()
    try:
        os.chown(cohort / "out", -1, groups[-1] if os.geteuid() == 0 else groups[0])
    except (OSError, IndexError):
        yield Row(setgid, "none", 0, "skipped: this user is in one group alone")
        return
    (cohort / "out").chmod(0o2775)
    group, wrong, checked = (cohort / "out").stat().st_gid, [], 0
    for call in every_call(PLAIN):
        wrong += wrong_with(call, begin(call, cohort, variables), cohort)
    for path in (cohort / "out").rglob("*"):
        checked += 1
        if path.stat().st_gid != group:
            wrong.append(f"{path.relative_to(cohort)} has another group")
    yield Row(
        setgid,
        f"all {len(TOOLS)} tools",
        checked,
        "all files and folders in it have the group",
        tuple(wrong),
    )


UMASK = "import os, sys; os.umask(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"


def planted_links(folder: Path) -> Iterator[Row]:
    """Lay links under the names that temporary files will have."""
    victim = folder / "victim"
    victim.write_text("mine\n")
    place = folder / "out"
    place.mkdir()
    image = save(folder / "image.nii.gz", np.ones((3, 4, 5), np.uint8))
    code = f"""
import os
from lnqtools.files import atomic
name = "x.nii.gz"
os.symlink({str(victim)!r}, os.path.join({str(place)!r}, f".{{name}}" + atomic.temporary_suffix()))
from lnqtools.cli.weaklabel import main
main([{str(image)!r}, "--strategy", "full", "-o", {str(place / "x.nii.gz")!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    wrong = []
    if victim.read_text() != "mine\n":
        wrong.append("the file that the link names was written")
    is_whole = names_in(place) == ["x.nii.gz"] and not (place / "x.nii.gz").is_symlink()
    if done.returncode != 0 or not is_whole:
        wrong.append(f"status {done.returncode}, {names_in(place)}: {done.stderr}")
    yield Row(
        "a link under the name of the temporary file, to a file of the user",
        "atomic writes",
        1,
        "the file is untouched, the output whole",
        tuple(wrong),
    )


def read_only_tmp(folder: Path) -> Iterator[Row]:
    """Run all tools where /tmp cannot be written to and TMPDIR is elsewhere."""
    with TemporaryDirectory(dir="/var/tmp", prefix="lnq-torture.") as place:
        variables = weights_for(Path(place)) | {"TMPDIR": f"{place}/scratch"}
        (Path(place) / "scratch").mkdir()
        cohort = hostile_cohort(Path(place) / "cohort", PLAIN)
        mount = 'mount -t tmpfs -o ro none /tmp && exec "$@"'
        before = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
        wrong, calls = [], every_call(PLAIN)
        for call in calls:
            wrong += wrong_with(call, begin(call, cohort, variables, before), cohort)
            wrong += [f"{call.tool} left {name}" for name in names_in(Path(place, "scratch"))]
    yield Row(
        "/tmp is read-only, TMPDIR elsewhere",
        f"all {len(TOOLS)} tools",
        len(calls),
        "all work; TMPDIR is empty after each",
        tuple(wrong),
    )


# The terminal


def terminals(folder: Path) -> Iterator[Row]:
    """Run tools on a terminal, on hostile names, some of which are not images."""
    names = (*HOSTILE, NOT_TEXT)
    cohort = hostile_cohort(folder / "cohort", names)
    for name in HOSTILE[::3]:
        (cohort / "ann" / f"{name}.nii.gz").write_bytes(b"no image")
    calls = [call for call in light_calls(names) if call.inputs and "ann/" in call.inputs[0]]
    wrong = []
    for call in calls:
        for more in ((), ("-v",)):
            shown = on_terminal(
                Call(call.tool, (*call.arguments, *more, "-f"), call.inputs), cohort
            )
            if odd := CONTROL & {*shown}:
                wrong.append(f"{call.tool}: {sorted(odd)} came to the terminal")
    yield Row(
        "on a terminal, with names of escape codes; every third is not an image",
        ", ".join(dict.fromkeys(call.tool for call in calls)),
        2 * len(calls) * len(names),
        "no control character of a name came to it",
        tuple(wrong),
    )


PROGRESS = re.compile("\r\x1b\\[K")


def on_terminal(call: Call, folder: Path) -> str:
    """Return what a call writes to a terminal, without the tools' own erasing of a line."""
    (folder / "out").mkdir(exist_ok=True)
    (folder / "list").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in call.inputs))
    words = [str(BIN / call.tool), *("list" if w == "-" else w for w in call.arguments)]
    code = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=folder,
        check=False,
    )
    (folder / "list").unlink()
    text = done.stdout.decode(errors="backslashreplace").replace("\r\n", "\n").replace("\0", "")
    return PROGRESS.sub("", text)
