from __future__ import annotations

import gzip
import io
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.data.images import list_maps, read_maps, read_raw
from numbaglm.data.images.raw import DECOMPRESSION_ERRORS, RawMap, Tape, beginning, content
from numbaglm.errors import ImageError
from reference.maps import AFFINE, volumes

DATA = np.random.default_rng(0).integers(0, 50, 300_000, np.uint8).tobytes()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_content_is_what_the_standard_library_finds(tmp_path, parts):
    # Of several parts the last bytes tell the size of the last one alone.
    cuts = np.linspace(0, len(DATA), parts + 1).astype(int)
    compressed = b"".join(gzip.compress(DATA[i:j]) for i, j in pairwise(cuts))
    (tmp_path / "a.gz").write_bytes(compressed)
    (tmp_path / "a").write_bytes(DATA)
    for name in ("a.gz", "a"):
        assert content(tmp_path / name, len(DATA)).tobytes() == DATA
        assert content(tmp_path / name, lambda start: 5 * len(start)).tobytes() == DATA[:5120]
        assert beginning(tmp_path / name, 1000) == DATA[:1000]


def test_a_large_file_after_a_small_one_grows_the_memory(tmp_path):
    many = DATA * 30
    (tmp_path / "small.gz").write_bytes(gzip.compress(DATA))
    (tmp_path / "large.gz").write_bytes(gzip.compress(many) + gzip.compress(b"end"))
    assert content(tmp_path / "small.gz", len(DATA)).tobytes() == DATA
    assert content(tmp_path / "large.gz", len(many) + 3).tobytes() == many + b"end"


@pytest.mark.parametrize("damage", ["cut", "flipped", "other checksum", "foreign", "rest"])
def test_damaged_files_are_refused(tmp_path, damage):
    whole = gzip.compress(DATA)
    broken = {
        "cut": whole[:-20],
        "flipped": whole[:900] + bytes([whole[900] ^ 1]) + whole[901:],
        "other checksum": whole[:-8] + b"0000" + whole[-4:],
        "foreign": b"no gzip file" * 90,
        "rest": whole + b"no gzip file",
    }[damage]
    (tmp_path / "a.gz").write_bytes(broken)
    with pytest.raises(DECOMPRESSION_ERRORS):
        content(tmp_path / "a.gz", 5000)


def test_a_tape_is_read_in_order_and_from_anew(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(DATA))
    with Tape(tmp_path / "a.gz") as tape:
        for begin in (0, 1000, 50_000, 299_000, 10):
            assert tape.read(begin, 500).tobytes() == DATA[begin : begin + 500]
        tape.check_end()
        with pytest.raises(EOFError, match="Expected 500 bytes, got 300"):
            tape.read(len(DATA) - 300, 500)


TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64, ">i2", ">f4", ">f8"]


@given(
    dtype=st.sampled_from(TYPES),
    slope=st.sampled_from([1.0, 0.01, -3.0, 1e-36, 1e30, np.nan]),
    inter=st.sampled_from([0.0, 5.0, -0.25]),
    seed=st.integers(0, 9),
)
def test_values_are_those_of_nibabel(dtype, slope, inter, seed):
    rng = np.random.default_rng(seed)
    shape = (4, 3, 5)
    numbers = rng.integers(-100, 100, shape) * (rng.random(shape) < 0.8)
    if np.dtype(dtype).kind == "u":
        numbers = np.abs(numbers)
    raw = numbers.astype(dtype)
    if raw.dtype.kind == "f":
        raw[0, 0, :3] = np.nan, np.inf, -0.0
    image = nib.Nifti1Image(raw, AFFINE, dtype=np.dtype(dtype).newbyteorder("="))
    data = bytearray(image.to_bytes())
    data[112:120] = np.array([slope, inter], "<f4").tobytes()  # which nibabel does not let one choose
    image = nib.Nifti1Image.from_bytes(bytes(data))
    with np.errstate(all="ignore"):
        expected = np.asarray(image.dataobj, np.float32)
    stored = np.asarray(image.dataobj.get_unscaled()).ravel(order="F")
    mine = RawMap(stored, shape, image.dataobj.slope, image.dataobj.inter)
    np.testing.assert_array_equal(mine.volume(), expected)
    flat = expected.ravel(order="F")
    places = rng.permutation(flat.size)[:20]
    taken = np.empty(20, np.float32)
    mine.take(places, out=taken)
    np.testing.assert_array_equal(taken, flat[places])
    presence = mine.presence()
    np.testing.assert_array_equal(presence == 0, flat == 0)
    np.testing.assert_array_equal(np.isfinite(presence), np.isfinite(flat))


def test_a_compressed_4d_file_is_decompressed_once(tmp_path, monkeypatch):
    values = volumes(7)
    nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), tmp_path / "all.nii.gz")
    sources = list_maps(tmp_path / "all.nii.gz")[0]
    opened = []
    original = Tape.__init__
    monkeypatch.setattr(Tape, "__init__", lambda self, path: opened.append(path) or original(self, path))
    rewound = []
    monkeypatch.setattr(gzip.GzipFile, "rewind", lambda self: rewound.append(self))
    np.testing.assert_array_equal(np.stack(list(read_maps(sources))), values)
    assert (len(opened), rewound) == (1, [])


def test_raw_maps_hold_until_the_next(tmp_path):
    values = volumes(2)
    for number, volume in enumerate(values):
        nib.save(nib.Nifti1Image(volume, AFFINE), tmp_path / f"{number}.nii.gz")
    kept = [(raw, raw.copy()) for raw in read_raw(list_maps([tmp_path / "0.nii.gz", tmp_path / "1.nii.gz"])[0])]
    np.testing.assert_array_equal(kept[0][0].volume(), values[1])  # the memory is one
    for (_, copy), volume in zip(kept, values, strict=True):
        np.testing.assert_array_equal(copy.volume(), volume)


@pytest.mark.parametrize("volume", [0, 3])
def test_a_flipped_bit_in_a_4d_file_is_found(tmp_path, volume):
    stack = np.moveaxis(volumes(4), 0, -1)
    plain = nib.Nifti1Image(stack, AFFINE).to_bytes()
    begin = 352 + volume * stack[..., 0].nbytes
    packed = bytearray(gzip.compress(plain, 0))
    at = packed.index(plain[begin + 40 * 4 : begin + 60 * 4])
    packed[at] ^= 1
    (tmp_path / "all.nii.gz").write_bytes(packed)
    with pytest.raises(ImageError, match=r"all\.nii\.gz.*damaged.*CRC"):
        list(read_maps(list_maps(tmp_path / "all.nii.gz")[0]))


def test_headers_with_extensions_and_of_other_kinds(tmp_path):
    volume = volumes(1)[0]
    image = nib.Nifti1Image(volume, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 9000))
    nib.save(image, tmp_path / "extended.nii.gz")
    nib.save(nib.Nifti2Image(volume, AFFINE), tmp_path / "second.nii.gz")
    nib.save(nib.Nifti2Image(volume, AFFINE), tmp_path / "second.nii")
    nib.save(nib.Nifti1Pair(volume, AFFINE), tmp_path / "pair.img.gz")
    big = nib.Nifti1Image(volume.astype(">f4"), AFFINE, nib.Nifti1Header(endianness=">"))
    big.to_file_map(
        {"image": nib.FileHolder(fileobj=(stream := io.BytesIO())), "header": nib.FileHolder(fileobj=stream)}
    )
    (tmp_path / "big.nii.gz").write_bytes(gzip.compress(stream.getvalue()))
    for path in sorted(tmp_path.iterdir()):
        if path.name.startswith("pair.hdr"):
            continue
        sources = list_maps([path], minimum=1)[0]
        np.testing.assert_array_equal(next(read_maps(sources)), volume, err_msg=path.name)


@pytest.mark.parametrize("size", [1e160, 1e39, 1e-44, 1e-200])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_that_single_precision_can_not_hold_are_refused_by_the_maps_name(size, dtype):
    with np.errstate(over="ignore"):
        values = (np.random.default_rng(0).normal(size=60) * size).astype(dtype)
    one = RawMap(values, (3, 4, 5), name="sub-01.nii")
    if not np.isfinite(values).all() or not values.any():
        return  # the file itself lost them
    with pytest.raises(ImageError, match=r"sub-01\.nii holds values such as .*between 1\.2e-38 and 3\.4e\+38"):
        one.take(np.arange(50), out=np.empty(50, np.float32))


def test_a_few_values_that_single_precision_can_not_hold_come_out_as_they_do():
    values = np.random.default_rng(0).normal(size=60)
    values[:3] = 1e-50, 1e300, 0.0
    np.testing.assert_array_equal(RawMap(values, (60,)).volume()[:3], [0.0, np.inf, 0.0])


def test_zero_is_what_whole_numbers_hold_in_its_place():
    """As nibabel saves int16: slope and offset have no 0."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random(4000) < 0.5, rng.normal(size=4000), 0.0)
    image = nib.Nifti1Image(values.reshape(20, 20, 10, order="F"), AFFINE)
    image.set_data_dtype(np.int16)
    proxy = nib.Nifti1Image.from_bytes(image.to_bytes()).dataobj
    stored = proxy.get_unscaled().ravel(order="F")
    one = RawMap(stored, (4000,), proxy.slope, proxy.inter)
    assert (np.asarray(proxy).ravel(order="F")[values == 0] != 0).all()
    found = one.volume()
    assert not found[values == 0].any()
    np.testing.assert_allclose(found, values, atol=proxy.slope)
    np.testing.assert_array_equal(one.presence() == 0, found == 0)
    everywhere = RawMap(stored[values != 0], (int((values != 0).sum()),), proxy.slope, proxy.inter)
    assert everywhere.hidden_zero is None, "without a background a step is a value like others"
