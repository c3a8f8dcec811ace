"""nnU-Net models that are damaged, hostile, or made for something else."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.nnunet_data import Trap, as_before_2_3, random_model

CHECKPOINT = Path("fold_0", "checkpoint_final.pth")
NO_ARCHIVE = "neither a folder nor a whole zip archive"
NO_CHECKPOINT = "is not an nnU-Net v2 checkpoint"
NO_MEMORY = "memory ran out"
NOT_READ = r"nnU-Net [\d.]+ cannot read plans.json and dataset.json \(.*: take the files"
NOT_THERE = r"which nnU-Net [\d.]+ does not have: install the version or fork"
TRAP = "made by a pickle"
"""The name of a folder beside the models that only code from one of them would make."""


@dataclass(frozen=True)
class OddModel:
    """A model as a change of a good one, and the refusal (a pattern); None: it runs."""

    name: str
    change: Callable[[Path], object]
    error: str | None = None


def _emptied(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()


def _a_file(content: bytes) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        shutil.rmtree(model)
        model.write_bytes(content)

    return change


def _written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes(content)


def _cut(name: str | Path, share: float) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: int(len(content) * share)])

    return change


def _changed(name: str, change_content: Callable[[dict], object]) -> Callable[[Path], object]:
    """Change the content of a JSON file."""

    def change(model: Path) -> None:
        content = json.loads((model / name).read_text())
        change_content(content)
        (model / name).write_text(json.dumps(content))

    return change


def _checkpoint(change_content: Callable[[dict, Path], dict]) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        import torch

        content = torch.load(model / CHECKPOINT, weights_only=False)
        torch.save(change_content(content, model.parent), model / CHECKPOINT)

    return change


def _without(key: str) -> Callable[[Path], object]:
    return _checkpoint(lambda content, _: {k: v for k, v in content.items() if k != key})


def _each_configuration(change: Callable[[dict], object]) -> Callable[[dict], object]:
    return lambda plans: [change(c) for c in plans["configurations"].values()]


def _dataset_of_v1(dataset: dict) -> None:
    dataset.clear()
    dataset |= {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "lymph_node"}}


def _of_umamba(plans: dict) -> None:
    """Describe the network as a fork of nnU-Net before 2.3 did."""
    as_before_2_3(plans)
    for configuration in plans["configurations"].values():
        configuration["UNet_class_name"] = "UMambaBot"


def _model_of_v1(model: Path) -> None:
    _emptied(model)
    (model / "fold_0").mkdir()
    for name in ("plans.pkl", "fold_0/model_final_checkpoint.model"):
        (model / name).write_bytes(b"x")


def _fold_alone(model: Path) -> None:
    (model / CHECKPOINT).rename(model / CHECKPOINT.name)
    (model / "fold_0").rmdir()


def _checkpoint_alone(model: Path) -> None:
    content = (model / CHECKPOINT).read_bytes()
    shutil.rmtree(model)
    model.write_bytes(content)


def _bit_wrong(model: Path) -> None:
    content = bytearray((model / CHECKPOINT).read_bytes())
    content[len(content) // 2] ^= 255
    (model / CHECKPOINT).write_bytes(content)


def _zipped(model: Path, *, cut: float = 1, member: str | None = None) -> None:
    made = model.with_suffix(".making")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(p for p in model.rglob("*") if p.is_file()):
            opened.write(path, Path("m") / path.relative_to(model))
        if member:
            opened.writestr(member, "{}")
    shutil.rmtree(model)
    content = made.read_bytes()
    made.unlink()
    model.write_bytes(content[: int(len(content) * cut)])


def _code(content: dict, folder: Path) -> dict:
    return content | {"logging": Trap(folder / TRAP)}


MODELS = (
    OddModel("plain", lambda model: None),
    OddModel("archive.zip", _zipped),
    OddModel("missing", shutil.rmtree, "there is no such model folder"),
    OddModel("empty", _emptied, "there is no fold_"),
    OddModel("empty file", _a_file(b""), NO_ARCHIVE),
    OddModel("text", _a_file(b"hello\n"), NO_ARCHIVE),
    OddModel("archive cut.zip", lambda model: _zipped(model, cut=0.5), NO_ARCHIVE),
    OddModel("archive climbs.zip", lambda model: _zipped(model, member="../x.json"), "'../x.json'"),
    OddModel("no checkpoint", lambda m: (m / CHECKPOINT).unlink(), "no fold of the model holds"),
    OddModel("no plans", lambda m: (m / "plans.json").unlink(), "plans.json is missing"),
    OddModel("no dataset", lambda m: (m / "dataset.json").unlink(), "dataset.json is missing"),
    OddModel("plans empty", _written("plans.json", b""), "plans.json is not valid JSON"),
    OddModel("plans cut", _cut("plans.json", 0.5), "plans.json is not valid JSON"),
    OddModel("plans binary", _written("plans.json", bytes(range(256))), "plans.json is not"),
    OddModel("plans a list", _written("plans.json", b"[]"), "plans.json is not an nnU-Net file"),
    OddModel("plans {}", _written("plans.json", b"{}"), NOT_READ),
    OddModel("plans deep", _written("plans.json", b"[" * 100_000), "plans.json .* nests too deep"),
    OddModel(
        "dataset a number", _written("dataset.json", b"7"), "dataset.json is not an nnU-Net file"
    ),
    OddModel("dataset {}", _written("dataset.json", b"{}"), "takes 0 input channels"),
    OddModel(
        "two channels",
        _changed("dataset.json", lambda d: d.update(channel_names={"0": "CT", "1": "PET"})),
        "takes 2 input channels",
    ),
    OddModel(
        "no node among labels",
        _changed("dataset.json", lambda d: d.update(labels={"background": 0})),
        "no label but the background",
    ),
    OddModel(
        "other labels",
        _changed("dataset.json", lambda d: d.update(labels={"background": 0, "a": 1, "GTVn": 2})),
        "none of .* lymph_node or the like: a, GTVn; say which it is with --label GTVn",
    ),
    OddModel(
        "two nodes",
        _changed("dataset.json", lambda d: d.update(labels={"background": 0, "LN": 1, "node": 2})),
        "2 of the model's labels could be the lymph nodes: LN, node; say which with --label",
    ),
    OddModel(
        "one label more than outputs",
        _changed("dataset.json", lambda d: d["labels"].update(aorta=2)),
        "make 3 outputs of the network, but fold_0 has 2: take the dataset.json",
    ),
    OddModel("dataset of v1", _changed("dataset.json", _dataset_of_v1), "is one of nnU-Net v1"),
    OddModel("v1", _model_of_v1, "is a model of nnU-Net v1"),
    OddModel("archive of v1.zip", lambda m: (_model_of_v1(m), _zipped(m)), "model of nnU-Net v1"),
    OddModel("fold_0", _fold_alone, "is a fold of a model: give the folder above"),
    OddModel("checkpoint.pth", _checkpoint_alone, "is one file of a model: give the folder that"),
    OddModel(
        "another preprocessor",
        _changed("plans.json", _each_configuration(lambda c: c.update(preprocessor_name="Mine"))),
        f"the preprocessor Mine, {NOT_THERE}",
    ),
    OddModel(
        "another normalization",
        _changed(
            "plans.json", _each_configuration(lambda c: c.update(normalization_schemes=["Mine"]))
        ),
        f"the normalization Mine, {NOT_THERE}",
    ),
    OddModel(
        "no intensities",
        _changed("plans.json", lambda p: p["foreground_intensity_properties_per_channel"].clear()),
        "foreground_intensity_properties_per_channel lacks mean",
    ),
    OddModel(
        "another resampling",
        _changed(
            "plans.json", _each_configuration(lambda c: c.update(resampling_fn_probabilities="x"))
        ),
        f"the resampling x, {NOT_THERE}",
    ),
    OddModel("another architecture", _changed("plans.json", _of_umamba), NOT_READ),
    OddModel(
        "labels of another kind",
        _changed("dataset.json", lambda d: d.update(labels=["background"])),
        NOT_READ,
    ),
    OddModel(
        "spacing 0",
        _changed("plans.json", _each_configuration(lambda c: c.update(spacing=[0, 1, 1]))),
        "gives the spacing",
    ),
    OddModel(
        "spacing 1e-6",
        _changed("plans.json", _each_configuration(lambda c: c.update(spacing=[1e-6] * 3))),
        "gives the spacing",
    ),
    OddModel(
        "patch of billions",
        _changed("plans.json", _each_configuration(lambda c: c.update(patch_size=[1 << 14] * 3))),
        NO_MEMORY,
    ),
    OddModel(
        "reader of pictures",
        _changed("plans.json", lambda p: p.update(image_reader_writer="NaturalImage2DIO")),
        "was trained on pictures, not on CTs",
    ),
    OddModel(
        "reader of theirs",
        _changed(
            "plans.json",
            lambda p: (p.pop("lnq_orientation"), p.update(image_reader_writer=["MyIO"])),
        ),
        "names the reader .*MyIO.*, which nnU-Net does not have",
    ),
    OddModel(
        "orientation of two axes",
        _changed("plans.json", lambda p: p.update(lnq_orientation="LP")),
        "'LP' is not an orientation",
    ),
    OddModel(
        "axes that are not put back",
        _changed("plans.json", lambda p: p.update(transpose_backward=[1, 0, 2])),
        "does not undo transpose_forward",
    ),
    OddModel(
        "a key that nothing heeds",
        _changed("plans.json", lambda p: p.update(smoothing=3)),
    ),
    OddModel(
        "no configuration",
        _changed("plans.json", lambda p: p.update(configurations={})),
        "lacks the configuration",
    ),
    OddModel(
        "class that is not a network",
        _changed(
            "plans.json",
            _each_configuration(
                lambda c: c["architecture"].update(network_class_name="subprocess.Popen")
            ),
        ),
        "subprocess.Popen",
    ),
    OddModel(
        "more features than weights",
        _changed(
            "plans.json",
            _each_configuration(
                lambda c: c["architecture"]["arch_kwargs"].update(
                    features_per_stage=[
                        2 * n for n in c["architecture"]["arch_kwargs"]["features_per_stage"]
                    ]
                )
            ),
        ),
        "the weights do not fit",
    ),
    OddModel("checkpoint empty", _written(str(CHECKPOINT), b""), "not a readable checkpoint"),
    OddModel(
        "checkpoint text", _written(str(CHECKPOINT), b"hello\n" * 99), "not a readable checkpoint"
    ),
    OddModel("checkpoint cut", _cut(CHECKPOINT, 0.5), "not a readable checkpoint"),
    OddModel("checkpoint cut at the end", _cut(CHECKPOINT, 0.999), "not a readable checkpoint"),
    OddModel("no weights in it", _without("network_weights"), NO_CHECKPOINT),
    OddModel("no arguments in it", _without("init_args"), NO_CHECKPOINT),
    OddModel("a list in it", _checkpoint(lambda *_: [1, 2]), NO_CHECKPOINT),
    OddModel("code in it", _checkpoint(_code), "holds more than weights and plain values"),
    OddModel("bit wrong", _bit_wrong, "not a readable checkpoint|damaged"),
)


def write_models(folder: Path) -> None:
    """Write the models, each a changed copy of one untrained network."""
    folder.mkdir(parents=True)
    good = random_model(folder / ".good", spacing=(2.0, 1.5, 1.5), patch=(16, 16, 16), eagerness=1)
    for odd in MODELS:
        shutil.copytree(good, folder / odd.name)
        odd.change(folder / odd.name)
    shutil.rmtree(good)


def expected() -> list[dict[str, str]]:
    """Return what is promised of each model, as rows of a table."""
    return [{"model": odd.name, "promise": odd.error or "runs"} for odd in MODELS]
