"""The pretrained encoder whose weights are a package: its file is read without torch, and nothing in it is executed."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest

from reward_classifiers import ClassifierError
from reward_classifiers.efficientnet import FILE, PACKAGE, classify, load_params
from reward_classifiers.encoders import load_encoder
from reward_classifiers.torch_file import MAGIC, read_torch_file


def text(said: str) -> bytes:
    return b"X" + struct.pack("<I", len(said)) + said.encode()


def numbers(*told: int) -> bytes:
    """A tuple."""
    return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in told) + b"t"


def tensor(array: np.ndarray, key: str) -> bytes:
    kind = b"ctorch\nFloatStorage\n" if array.dtype == np.float32 else b"ctorch\nLongStorage\n"
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + b"J" + struct.pack("<i", array.size) + b"NtQ"
    strides = numbers(*(step // array.itemsize for step in array.strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + numbers(*array.shape) + strides + b"\x89tR"


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As torch did before 1.6, in pickle's words of protocol 2."""
    arrays = {name: array.copy(order="C") for name, array in arrays.items()}
    items = b"".join(text(name) + tensor(array, str(i)) for i, (name, array) in enumerate(arrays.items()))
    keys = b"".join(text(str(i)) for i in range(len(arrays)))
    parts = [b"\x8a\x0a" + MAGIC.to_bytes(10, "little"), b"M\xe9\x03", b"}", b"ccollections\nOrderedDict\n)R(" + items + b"u"]
    data = b"".join(b"\x80\x02" + part + b"." for part in [*parts, b"](" + keys + b"e"])
    path.write_bytes(data + b"".join(array.size.to_bytes(8, "little") + array.tobytes() for array in arrays.values()))


def random_weights() -> dict[str, np.ndarray]:
    """Of the network's shapes, names as in the package."""
    rng = np.random.default_rng(0)
    told: dict[str, np.ndarray] = {}

    def layer(weights: str, norm: str, out: int, into: int, kernel: int) -> None:
        scale = np.sqrt(2.0 / (into * kernel * kernel))
        told[f"{weights}.weight"] = (scale * rng.normal(size=(out, into, kernel, kernel))).astype(np.float32)
        for name, value in (("weight", 1.0), ("bias", 0.1), ("running_mean", 0.0), ("running_var", 1.0)):
            told[f"{norm}.{name}"] = (value + 0.1 * rng.random(out)).astype(np.float32)
        told[f"{norm}.num_batches_tracked"] = np.array(7, np.int64)

    layer("_conv_stem", "_bn0", 32, 3, 3)
    width, block = 32, 0
    # repeats, kernel, expansion, width: Tan & Le 2019, table 1
    for repeats, kernel, expansion, out in (
        *((1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)),
    ):
        for _ in range(repeats):
            inner = width * expansion
            if expansion > 1:
                layer(f"_blocks.{block}._expand_conv", f"_blocks.{block}._bn0", inner, width, 1)
            layer(f"_blocks.{block}._depthwise_conv", f"_blocks.{block}._bn1", inner, 1, kernel)
            layer(f"_blocks.{block}._project_conv", f"_blocks.{block}._bn2", out, inner, 1)
            width, block = out, block + 1
    layer("_conv_head", "_bn1", 1280, 320, 1)
    told["_fc.weight"] = rng.normal(size=(1000, 1280)).astype(np.float32)
    told["_fc.bias"] = np.zeros(1000, np.float32)
    return told


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights' file of a package with the real one's name, first on the path."""
    path = tmp_path / PACKAGE / FILE
    path.parent.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise AssertionError('the package is never imported')\n")
    write(path, random_weights())
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return path


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "n": np.array(5, np.int64), "none": np.ones(1, np.float32)}
    write(tmp_path / "w.pth", arrays)
    told = read_torch_file(tmp_path / "w.pth")
    assert list(told) == list(arrays)
    for name, array in arrays.items():
        assert told[name].dtype == array.dtype and told[name].shape == array.shape and (told[name] == array).all()


def test_a_file_that_wants_to_call_something_is_refused_and_so_is_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    write(path, {"a": np.ones(3, np.float32)})
    path.write_bytes(path.read_bytes().replace(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cos\nsystem\n"))
    with pytest.raises(ClassifierError, match=r"w\.pth cannot be read \(it asks for os system"):
        read_torch_file(path)
    write(path, {"a": np.ones(100, np.float32)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_torch_file(path)
    path.write_bytes(b"PK not this format")
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_torch_file(path)


def test_one_picture_or_many_give_the_same_and_the_version_is_of_the_weights(package: Path) -> None:
    encoder = load_encoder("efficientnet_lite0")
    images = np.random.default_rng(1).integers(0, 256, (18, 24, 32, 3), np.uint8)
    together = encoder.encode(images)
    assert together.shape == (18, 7168) and together.dtype == np.float32 and np.isfinite(together).all()
    np.testing.assert_allclose(encoder.encode(images[3:4]), together[3:4], atol=1e-4)
    assert np.ptp(together, axis=0).max() > 0.01, "pictures differ"
    weights = random_weights()
    weights["_fc.bias"] += 1.0
    write(package, weights)
    assert load_encoder("efficientnet_lite0").name != encoder.name
    del weights["_conv_head.weight"]
    write(package, weights)
    with pytest.raises(ClassifierError, match="not EfficientNet-Lite0's"):
        load_encoder("efficientnet_lite0")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClassifierError, match=r"\.\[backbone\]"):
        load_encoder("efficientnet_lite0")


def test_the_real_weights_know_what_a_photograph_shows() -> None:
    """An admiral in uniform, which comes with matplotlib: a wrong layer, order or normalisation would not find the uniform."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip("needs the extra backbone")
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=True)) as photograph:
        square = photograph.convert("RGB").crop((0, 0, photograph.width, photograph.width)).resize((224, 224))
    params, _ = load_params(Path(found.origin).parent / FILE)
    logits = classify(params, np.asarray(square, np.float32)[None] / 127.5 - 1.0)
    assert int(np.argmax(logits)) == 652, "ImageNet's class 'military uniform'"
