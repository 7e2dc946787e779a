"""What a `.tflite` file says of its input and output: TensorFlow Lite's model metadata.

MediaPipe Tasks, ML Kit and the Task Library read it, to know which pixels the network wants and
what its answers are called. It is a flatbuffer of the schema `metadata_schema.fbs` (identifier
M001), kept in a buffer of the model; files that it names follow the model as a zip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlcli.formats.source import LABELS

IDENTIFIER = b"M001"
NAME = b"TFLITE_METADATA"

_MODEL_IDENTIFIER = b"TFL3"
_PARSER = "1.0.0"
"""The oldest reader that knows all that is said here."""

_TENSOR_AXIS_LABELS = 2
_IMAGE_PROPERTIES, _RGB = 2, 1
_NORMALISATION = 1


@dataclass(frozen=True)
class Table:
    """A table of a flatbuffer: the place of a field in the schema → its value."""

    fields: Mapping[int, "str | int | Table | Sequence[Table] | Sequence[float]"]


def with_metadata(model: bytes, name: str) -> bytes:
    """A model in TensorFlow Lite's format with the metadata of an image classifier.

    Args:
        model: one input, an image, raw RGB from 0 to 255; one output, probabilities.
        name: of the model, for people.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model), 0))
    buffer = schema.BufferT()
    buffer.data = bytearray(packed(described(name), IDENTIFIER))
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(content.buffers)
    content.buffers.append(buffer)
    content.metadata = [*(content.metadata or ()), entry]
    builder = _builder()
    builder.Finish(content.Pack(builder), file_identifier=_MODEL_IDENTIFIER)
    return bytes(builder.Output())


def described(name: str) -> Table:
    """The metadata of a classifier whose preprocessing is within the network."""
    graph = Table({2: [_image()], 3: [_probabilities()]})
    return Table({0: name, 3: [graph], 7: _PARSER})


def _image() -> Table:
    """The input: pixels as they are, which is a mean of 0 and a deviation of 1."""
    unchanged = Table({0: _NORMALISATION, 1: Table({0: [0.0], 1: [1.0]})})
    content = Table({0: _IMAGE_PROPERTIES, 1: Table({0: _RGB})})
    says = "RGB image, 0 to 255"
    return Table({0: "image", 1: says, 3: content, 4: [unchanged], 5: _range(0.0, 255.0)})


def _probabilities() -> Table:
    """The output: a probability for each line of the labels."""
    labels = Table({0: LABELS, 1: "Class names, one a line", 2: _TENSOR_AXIS_LABELS})
    says = "Probability of each class"
    return Table({0: "probability", 1: says, 5: _range(0.0, 1.0), 6: [labels]})


def _range(least: float, most: float) -> Table:
    return Table({0: [most], 1: [least]})


def packed(root: Table, identifier: bytes) -> bytes:
    """A flatbuffer of a table and what it holds."""
    builder = _builder()
    builder.Finish(_put(builder, root), file_identifier=identifier)
    return bytes(builder.Output())


def _builder() -> Any:
    import flatbuffers

    return flatbuffers.Builder(1024)


def _put(builder: Any, value: Any) -> int:
    """Write a value that stands for itself; where it is."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Table):
        return _put_table(builder, value)
    return _put_vector(builder, value)


def _put_table(builder: Any, table: Table) -> int:
    places = {
        field: _put(builder, value)
        for field, value in table.fields.items()
        if not isinstance(value, int)
    }
    builder.StartObject(max(table.fields) + 1)
    for field, value in table.fields.items():
        if isinstance(value, int):
            builder.PrependUint8Slot(field, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, places[field], 0)
    return int(builder.EndObject())


def _put_vector(builder: Any, values: Sequence[Table] | Sequence[float]) -> int:
    """Four bytes an entry: a number, or the place of a table."""
    entries = [_put(builder, value) if isinstance(value, Table) else value for value in values]
    builder.StartVector(4, len(entries), 4)
    for entry in reversed(entries):
        if isinstance(entry, float):
            builder.PrependFloat32(entry)
        else:
            builder.PrependUOffsetTRelative(entry)
    return int(builder.EndVector())
