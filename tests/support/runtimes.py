"""An exported file used without tlcli: `python runtimes.py FORMAT MODEL IMAGES.npy ANSWER.json`.

IMAGES.npy holds raw images (n, S, S, 3); ANSWER.json gets the probabilities and the class names.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


def keras(path: Path, images: Any) -> tuple[Any, list[str]]:
    import keras

    with zipfile.ZipFile(path) as archive:
        classes = json.loads(archive.read("metadata.json"))["classes"]
    return keras.saving.load_model(path).predict(images, verbose=0), classes


def savedmodel(path: Path, images: Any) -> tuple[Any, list[str]]:
    import tensorflow

    serve = tensorflow.saved_model.load(str(path)).signatures["serving_default"]
    classes = (path / "assets.extra" / "labels.txt").read_text("utf-8").splitlines()
    return serve(image=tensorflow.constant(images))["probabilities"].numpy(), classes


def litert(path: Path, images: Any) -> tuple[Any, list[str]]:
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(path) as archive:
        classes = archive.read("labels.txt").decode().splitlines()
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    received = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        received.append(interpreter.get_tensor(answer["index"])[0])
    return np.array(received), classes


def onnx(path: Path, images: Any) -> tuple[Any, list[str]]:
    from onnxruntime import InferenceSession

    session = InferenceSession(path)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    return session.run(["probabilities"], {"image": images})[0], classes


def openvino(path: Path, images: Any) -> tuple[Any, list[str]]:
    from openvino import Core

    model = (core := Core()).read_model(path)
    classes = json.loads(model.get_rt_info(["tlcli", "classes"]).astype(str))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(images)["probabilities"], classes


RUNTIMES = {run.__name__: run for run in (keras, savedmodel, litert, onnx, openvino)}

if __name__ == "__main__":
    name, model, given, answer = sys.argv[1:]
    images = np.load(given).astype(np.float32)
    probabilities, classes = RUNTIMES[name](Path(model), images)
    content = {"probabilities": np.asarray(probabilities).tolist(), "classes": classes}
    Path(answer).write_text(json.dumps(content), "utf-8")
