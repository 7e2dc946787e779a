"""Measure images → features: tlcli beside plain Keras and PyTorch, and what the hardware allows.

    python scripts/bench/forward.py PHOTOS --backbones EfficientNetLite0,MobileNetV2,ResNet50

PHOTOS is a folder of class folders of JPEG or PNG files. Every measurement runs in a process of
its own; the kinds alternate, and the table has the median of the repetitions, because machines
are shared. Weights are random: speed does not depend on them. Imports, building and compiling the
network are not counted on either side.

    tlcli         scan + features.extract with an empty cache: hashing, decoding, forward pass,
                  saving the vectors
    Keras         keras.utils.image_dataset_from_directory + Model.predict, batches of 32
    PyTorch       timm's network of the same name, batches of 32 of a DataLoader with a process for
                  each processor; where `torch` and `timm` are installed, else –
    decode only   the same files through the same decoder, nothing else
    forward only  the same engine on images that are in memory, nothing else
    limit         1 / (1/decode + 1/forward): what both together allow on the same processors
"""

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

IN_MEMORY = 256
BATCH = 32

OF_TIMM = {
    "DenseNet121": "densenet121",
    "EfficientNetB0": "efficientnet_b0",
    "EfficientNetLite0": "tf_efficientnet_lite0",
    "EfficientNetLite1": "tf_efficientnet_lite1",
    "EfficientNetLite2": "tf_efficientnet_lite2",
    "MobileNetV2": "mobilenetv2_100",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "VGG16": "vgg16",
}
"""What timm calls a backbone."""


def main() -> None:
    """Print the table."""
    options = _options()
    if options.measure:
        measured = MEASURES[options.measure](options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"images_a_second": measured, "peak_mb": peak}))
        return
    print(f"{os.cpu_count()} processors, {options.images} images, median of {options.repeats}\n")
    print(
        "| backbone | Keras | PyTorch | tlcli | beside Keras | beside PyTorch | decode only "
        "| forward only | limit | of limit | peak MB, Keras | peak MB, tlcli |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        photos = _sample(options.photos, options.images, Path(scratch) / "photos")
        for backbone in options.backbones.split(","):
            folder = Path(scratch) / backbone
            _measure("store", photos, backbone, folder, options)
            print(_row(backbone, photos, folder, options), flush=True)
            shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--backbones", default="EfficientNetLite0,MobileNetV2,ResNet50")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _sample(photos: Path, count: int, folder: Path) -> Path:
    """Copies of `count` images, spread evenly over the classes' files."""
    paths = sorted(path for path in photos.glob("*/*") if path.is_file())
    for path in paths[:: max(len(paths) // count, 1)][:count]:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


def _row(backbone: str, photos: Path, folder: Path, options: argparse.Namespace) -> str:
    torch = ("torch",) if _has_torch(backbone) else ()
    kinds = ("keras", *torch, "tlcli", "decode", "forward")
    runs = [
        {kind: _measure(kind, photos, backbone, folder, options) for kind in kinds}
        for _ in range(options.repeats)
    ]
    rate = {kind: statistics.median(run[kind]["images_a_second"] for run in runs) for kind in kinds}
    peak = {kind: max(run[kind]["peak_mb"] for run in runs) for kind in kinds}
    limit = 1 / (1 / rate["decode"] + 1 / rate["forward"])
    cells = (
        backbone,
        f"{rate['keras']:.0f}",
        f"{rate['torch']:.0f}" if torch else "–",
        f"{rate['tlcli']:.0f}",
        f"{rate['tlcli'] / rate['keras']:.2f}",
        f"{rate['tlcli'] / rate['torch']:.2f}" if torch else "–",
        f"{rate['decode']:.0f}",
        f"{rate['forward']:.0f}",
        f"{limit:.0f}",
        f"{rate['tlcli'] / limit:.0%}",
        f"{peak['keras']:.0f}",
        f"{peak['tlcli']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _measure(
    kind: str, photos: Path, backbone: str, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Run one measurement in a new process."""
    command = [sys.executable, __file__, str(photos), "--measure", kind, "--folder", str(folder)]
    command += ["--backbones", backbone, "--precision", options.precision]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TLCLI_CACHE_DIR": cache}
        done = subprocess.run(  # noqa: S603 - this very file
            command, env=environment, stdout=subprocess.PIPE, check=True
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def _store(options: argparse.Namespace) -> float:
    from tlcli import backbones

    model = backbones.build(options.backbones, None, backbones.Random())
    backbones.store(model, options.backbones, "none", options.folder, options.precision)
    return 0.0


def _keras(options: argparse.Namespace) -> float:
    from tlcli import backbones

    keras = backbones.keras_module()
    model = backbones.build(options.backbones, None, backbones.Random())
    count = len(list(options.photos.glob("*/*")))

    def work() -> None:
        dataset = keras.utils.image_dataset_from_directory(
            options.photos,
            labels=None,
            image_size=model.input_shape[1:3],
            batch_size=BATCH,
            shuffle=False,
            verbose=False,
        )
        model.predict(dataset, verbose=0)

    return _rate(count, work)


def _has_torch(backbone: str) -> bool:
    installed = all(importlib.util.find_spec(name) for name in ("torch", "timm"))
    return installed and backbone in OF_TIMM


def _torch(options: argparse.Namespace) -> float:
    import timm
    import torch
    from PIL import Image

    from tlcli import backbones

    size = backbones.load_stored(options.folder).image_size
    paths = sorted(options.photos.glob("*/*"))
    model = timm.create_model(OF_TIMM[options.backbones], num_classes=0).eval()

    class Photographs:
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, row: int) -> Any:
            with Image.open(paths[row]) as image:
                square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255

    batches = torch.utils.data.DataLoader(
        Photographs(), batch_size=BATCH, num_workers=os.cpu_count() or 1
    )

    def work() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    return _rate(len(paths), work)


def _tlcli(options: argparse.Namespace) -> float:
    from tlcli import backbones, images
    from tlcli.config import RunsOn, no_progress
    from tlcli.extractor import Extractor

    extractor = Extractor.of(backbones.load_stored(options.folder), RunsOn(), None)
    extractor.engines[0].open()
    count = len(list(options.photos.glob("*/*")))
    return _rate(count, lambda: extractor.features(images.scan(options.photos).images, no_progress))


def _decode(options: argparse.Namespace) -> float:
    from tlcli import backbones, images

    size = backbones.load_stored(options.folder).image_size
    listed = images.scan(options.photos).images
    decoded = images.decode_many(listed, images.Square(size))
    return _rate(len(listed), lambda: [None for _ in decoded])


def _forward(options: argparse.Namespace) -> float:
    from tlcli import backbones, engines, images

    stored = backbones.load_stored(options.folder)
    engine = engines.choices(stored, "auto")[0].open()
    listed = images.scan(options.photos).images
    pixels = images.decode_many(listed[:IN_MEMORY], images.Square(stored.image_size))
    decoded = [image for image in pixels if isinstance(image, np.ndarray)]
    stream = islice(cycle(decoded), len(listed))
    return _rate(len(listed), lambda: [None for _ in engine.features(stream)])


MEASURES = {
    "store": _store,
    "keras": _keras,
    "torch": _torch,
    "tlcli": _tlcli,
    "decode": _decode,
    "forward": _forward,
}

if __name__ == "__main__":
    main()
