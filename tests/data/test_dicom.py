"""DICOM: the grey values that a viewer shows, clear refusals, and the patient."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.uid import MPEG2MPML, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from hf_smalldata.data import dicom
from hf_smalldata.data.images import accepts, check_images, open_image
from hf_smalldata.errors import UserError

RAMP = np.array([[0, 1024], [2048, 4095]], dtype=np.uint16)


def dataset(pixels: np.ndarray | None = RAMP, bits: int = 12, **elements) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = "1.2.840.10008.5.1.4.1.1.7", "1.2.3", "OT"
    if pixels is not None:
        made.Rows, made.Columns = pixels.shape[:2]
        made.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
        made.PhotometricInterpretation = "MONOCHROME2"
        made.BitsAllocated = pixels.dtype.itemsize * 8
        made.BitsStored, made.HighBit = bits, bits - 1
        made.PixelRepresentation = int(pixels.dtype.kind == "i")
        made.PixelData = pixels.tobytes()
        if pixels.ndim == 3:
            made.PlanarConfiguration = 0
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def written(*arguments, **elements) -> bytes:
    buffer = io.BytesIO()
    dataset(*arguments, **elements).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def grey(source: bytes, window=None) -> list[int]:
    image = dicom.open_dicom(source, window)
    assert image.mode == "L"
    return np.asarray(image).ravel().tolist()


def test_without_a_window_all_that_the_bits_can_store_is_shown():
    assert grey(written()) == [0, 64, 128, 255]
    assert grey(written(bits=16)) == [0, 4, 8, 16]  # by the bits, not by the pixels
    signed = np.array([[-2048, 0], [1024, 2047]], dtype=np.int16)
    assert grey(written(signed)) == [0, 128, 191, 255]
    assert grey(written(RescaleSlope=-2, RescaleIntercept=10)) == [255, 191, 127, 0]


def test_eight_bits_are_shown_as_they_are_whatever_window_is_asked_for():
    ultrasound = np.array([[0, 7], [77, 255]], dtype=np.uint8)
    assert grey(written(ultrasound, 8)) == grey(written(ultrasound, 8), (40, 400)) == [0, 7, 77, 255]


def test_monochrome1_is_inverted():
    assert grey(written(PhotometricInterpretation="MONOCHROME1")) == [255, 191, 127, 0]


def test_the_window_is_in_hounsfield_units_after_the_rescale():
    scan = written(RescaleSlope=1, RescaleIntercept=-1024)
    assert grey(scan, (0, 2048)) == [0, 128, 255, 255]
    assert grey(scan, (-1024, 1)) == [255] * 4  # all lie above the centre less a half
    assert grey(scan, (1000, 1)) == [0, 0, 255, 255]


def test_the_given_window_goes_before_that_of_the_file():
    scan = written(WindowCenter=[512, 40], WindowWidth=[1024, 80])
    assert grey(scan) == [0, 255, 255, 255]  # the first of two
    assert grey(scan, (2048, 4096)) == [0, 64, 128, 255]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_of_the_file_agree_with_pydicom(function):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    made = dataset(values, WindowCenter=700.5, WindowWidth=333, VOILUTFunction=function)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    expected = (apply_windowing(values, made) / 4095 * 255).round()
    np.testing.assert_allclose(grey(buffer.getvalue()), expected.ravel(), atol=1)


def test_a_table_of_grey_values_is_looked_up():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [3, 1023, 8], [10, 20, 30]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    assert grey(written(VOILUTSequence=[table])) == [10, 20, 30, 30]


def test_colour_becomes_rgb():
    picture = np.array([[[255, 0, 0], [1, 2, 3]]], dtype=np.uint8)
    image = dicom.open_dicom(written(picture, 8, PhotometricInterpretation="RGB"), (40, 400))
    assert (image.mode, image.getpixel((0, 0)), image.getpixel((1, 0))) == ("RGB", (255, 0, 0), (1, 2, 3))
    luma = np.array([[[76, 85, 255]]], dtype=np.uint8)  # red
    red, green, blue = dicom.open_dicom(written(luma, 8, PhotometricInterpretation="YBR_FULL"), None).getpixel((0, 0))
    assert red >= 253
    assert max(green, blue) <= 2


def test_a_palette_gives_its_colours():
    colours = {}
    for at, name in enumerate(("Red", "Green", "Blue")):
        colours[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        colours[f"{name}PaletteColorLookupTableData"] = np.array([0, 257 * (at + 1)], dtype=np.uint16).tobytes()
    source = written(np.array([[0, 1]], dtype=np.uint8), 8, PhotometricInterpretation="PALETTE COLOR", **colours)
    image = dicom.open_dicom(source, None)
    assert [image.getpixel((0, 0)), image.getpixel((1, 0))] == [(0, 0, 0), (1, 2, 3)]


def compressed(syntax: str) -> bytes:
    made = dataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = (
        b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (written(None, Modality="SR"), r"holds no image \(modality SR\)"),
        (written(np.zeros((2, 2, 3), np.uint8), 8, NumberOfFrames=3), "holds 3 frames.*export the frames you need"),
        (written(PhotometricInterpretation="HSV"), "expected grey, RGB, YBR or palette colour, found HSV"),
        (written()[:-3], "is cut off: 3 of its 8 bytes of pixels are missing"),
        (compressed(MPEG2MPML), "its transfer syntax, MPEG2.*holds no still image"),
        (b"\x89PNG" + bytes(200), "expected a DICOM file, could not read its header"),
    ],
)
def test_what_is_no_single_image_is_refused_by_its_header_alone(source, said, tmp_path):
    path = tmp_path / "scan.dcm"
    path.write_bytes(source)
    with pytest.raises(UserError, match=rf"scan\.dcm: {said}"):
        open_image(str(path))
    with pytest.raises(UserError, match=rf"1 of 1 images.*\n.*scan\.dcm: {said}"):
        check_images([{"bytes": None, "path": str(path)}], ["a"], "here")


def test_a_compression_without_a_decoder_names_the_package(monkeypatch):
    from pydicom.pixels import get_decoder

    decoder = get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    source = compressed(JPEGLSLossless)
    assert "pip install 'pylibjpeg[all]'" in dicom.dicom_problem(source)
    monkeypatch.setattr(decoder, "_available", {"any": lambda *_: None})
    assert dicom.dicom_problem(source) is None


def test_pixels_that_do_not_decode_are_named():
    broken = written(BitsStored=20)
    assert dicom.dicom_problem(broken) is None
    with pytest.raises(UserError, match="a DICOM file without a name: expected a DICOM image, could not decode it"):
        dicom.open_dicom(broken, None)


def test_a_file_of_too_many_pixels_is_refused_by_its_header_before_it_is_decoded(monkeypatch):
    made = dataset(PixelData=encapsulate([b"\0" * 64]))
    made.Rows = made.Columns = 50_000
    made.file_meta.TransferSyntaxUID = RLELossless
    made["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_: pytest.fail("decoded"))
    told = r"holds 50,000 x 50,000 pixels, more than 89,478,485; save it smaller"
    with pytest.raises(UserError, match=told):
        open_image(buffer.getvalue())
    with pytest.raises(UserError, match=told):
        check_images([buffer.getvalue()], ["bomb"], "the rows")


def test_a_deflated_file_is_read_unless_it_inflates_to_more_than_an_image(monkeypatch):
    def deflated(pixels):
        made, buffer = dataset(pixels, PatientID="p7"), io.BytesIO()
        made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        made.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    assert grey(deflated(RAMP)) == [0, 64, 128, 255]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    bomb = deflated(np.zeros((100, 100), np.uint16))
    assert len(bomb) < 1000
    monkeypatch.setattr("pydicom.dcmread", lambda *_, **__: pytest.fail("inflated"))
    for read in (open_image, dicom.patient_id):
        with pytest.raises(UserError, match="inflates to more than 1,000 pixels hold; save it smaller"):
            read(bomb)


def test_a_window_of_no_width_is_refused():
    with pytest.raises(UserError, match=r"scan\.dcm: expected a window width of at least 1.*found 0"):
        dicom.open_dicom(written(WindowCenter=0, WindowWidth=0), None, "scan.dcm")


def test_a_header_that_breaks_a_rule_of_the_standard_is_read_in_silence():
    with config.disable_value_validation():
        source = written(PatientID="a" * 80, RescaleSlope=1, RescaleIntercept="0.00000000000000000")
    assert dicom.patient_id(source) == "a" * 80
    assert grey(source) == [0, 64, 128, 255]


def test_dicom_is_told_by_its_content_not_by_its_name(tmp_path):
    files = {
        "IM0001": written(),
        "1.2.840.113": written(),
        "notes": b"x",
        "DICOMDIR": written(None),
        "a.txt": bytes(500),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert [name for name in files if accepts(tmp_path / name)] == ["IM0001", "1.2.840.113"]
    assert open_image(tmp_path / "IM0001").getpixel((1, 0)) == (64, 64, 64)
    assert open_image({"bytes": written(), "path": "x.dcm"}, [2048, 4096]).mode == "RGB"


def test_rows_of_one_patient_are_a_group(tmp_path):
    ids = ["p1", "p2 ", "p1", "", "ANONYMOUS"]
    rows = [{"bytes": written(PatientID=patient, PatientName=str(at)), "path": None} for at, patient in enumerate(ids)]
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    groups = dicom.patient_groups([*rows, {"bytes": None, "path": str(picture)}])
    assert groups[:3] == ["p1", "p2", "p1"]
    assert len(set(groups)) == 5  # two patients, and three rows alone
    assert dicom.patient_groups(rows[3:]) is None
    assert dicom.patient_groups([{"bytes": None, "path": str(picture)}]) is None


def test_the_patient_is_read_without_the_pixels(tmp_path):
    path = Path(tmp_path / "IM1")
    path.write_bytes(written(PatientID="p7")[:-8])
    assert dicom.patient_id(path) == "p7"
