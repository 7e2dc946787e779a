"""DICOM: the picture that its window shows, or why there is none."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlcli.errors import BadImage
from tlcli.images import check, decode, scan
from tlcli.images.walking import is_image

pydicom = pytest.importorskip("pydicom")


def write(path: Path, pixels: np.ndarray[Any, Any], **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = pydicom.dataset.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


RAMP = np.repeat(np.arange(0, 4096, 64, dtype=np.uint16), 64).reshape(64, 64)


def grey(path: Path) -> np.ndarray[Any, Any]:
    return decode(path, 64)[:, 0, 0].astype(int)


def test_grey_is_what_the_window_shows(tmp_path: Path) -> None:
    shown = grey(write(tmp_path / "a.dcm", RAMP, WindowCenter=1000, WindowWidth=801))
    values = RAMP[:, 0]
    assert (shown[values <= 599] == 0).all()
    assert (shown[values >= 1400] == 255).all()
    assert shown[values == 1024][0] == pytest.approx(255 * (1024 - 599.5) / 800, abs=1)
    several = write(tmp_path / "b.dcm", RAMP, WindowCenter=[1000, 5], WindowWidth=[801, 9])
    assert (grey(several) == shown).all()


def test_without_a_window_from_the_smallest_to_the_largest_value(tmp_path: Path) -> None:
    shown = grey(write(tmp_path / "a.dcm", RAMP // 2 + 100))
    assert (shown[0], shown[-1]) == (0, 255)
    rescaled = write(tmp_path / "b.dcm", RAMP // 2 + 100, RescaleSlope=2, RescaleIntercept=-9)
    assert (grey(rescaled) == shown).all()
    inverted = write(tmp_path / "c.dcm", RAMP // 2 + 100, PhotometricInterpretation="MONOCHROME1")
    assert (grey(inverted) == 255 - shown).all()


def test_colours_stay_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert (decode(write(tmp_path / "a.dcm", pixels), 64) == pixels).all()


def test_files_without_a_suffix_are_known_by_content(tmp_path: Path) -> None:
    for number, name in enumerate(("IM0001", "1.2.840.5", "a.dcm", "b.DICOM")):
        write(tmp_path / "ct" / name, RAMP + number)
    (tmp_path / "ct" / "README").write_text("no image")
    report = check(tmp_path)
    assert report.formats == {"DICOM": 4}
    assert report.wrong_suffixes == 0
    assert [entry.to_text() for entry in report.passed_over] == ["1 without a suffix"]


@pytest.mark.parametrize("cut", [140, 400, 3000])
def test_damage_is_named(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadImage):
        decode(path, 64)


def test_reports_have_no_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with pytest.raises(BadImage, match="without a picture"):
        decode(path, 64)


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "ct" / "a.dcm", RAMP)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert is_image(tmp_path / "ct" / "a.dcm")
    assert len(scan(tmp_path).images) == 1
    (skipped,) = check(tmp_path).skipped
    assert "pip install 'tlcli[dicom]'" in skipped.reason
