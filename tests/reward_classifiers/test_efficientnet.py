"""The pretrained encoder whose weights are a package: its file is read without torch, and nothing in it is executed."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from reward_classifiers import ClassifierError
from reward_classifiers.efficientnet import FILE, PACKAGE, classify, load_params
from reward_classifiers.encoders import load_encoder
from reward_classifiers.torch_file import MAGIC, read_torch_file


class Saved:
    """A tensor as torch's old format pickles it: how to build it from a storage that lies after the pickle."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.copy(order="C")

    def __reduce__(self):
        stride = tuple(step // self.array.itemsize for step in self.array.strides)
        storage = Storage(self.array.reshape(-1))
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (storage, 0, self.array.shape, stride, False, OrderedDict())


class Storage:
    def __init__(self, flat: np.ndarray) -> None:
        self.flat = flat


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch):
    """Writes a dictionary of arrays as torch did before 1.6; stand-ins give pickle the names that torch's functions had."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None:
        raise AssertionError("never called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
        stored: dict[str, np.ndarray] = {}

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj):
                if not isinstance(obj, Storage):
                    return None
                kind = torch.FloatStorage if obj.flat.dtype == np.float32 else torch.LongStorage
                key = str(len(stored))
                stored[key] = obj.flat
                return ("storage", kind, key, "cpu", len(obj.flat), None)

        with path.open("wb") as file:
            for header in (MAGIC, 1001, {"little_endian": True}):
                pickle.dump(header, file, protocol=2)
            Pickler(file, protocol=2).dump(OrderedDict((name, Saved(array)) for name, array in arrays.items()))
            pickle.dump(list(stored), file, protocol=2)
            for flat in stored.values():
                file.write(len(flat).to_bytes(8, "little") + flat.tobytes())

    return save


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
def package(tmp_path: Path, write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights' file of a package with the real one's name, first on the path."""
    path = tmp_path / PACKAGE / FILE
    path.parent.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise AssertionError('the package is never imported')\n")
    write(path, random_weights())
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return path


def test_arrays_come_back_as_they_were_written(tmp_path: Path, write) -> None:
    arrays = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "n": np.array(5, np.int64), "none": np.ones(1, np.float32)}
    write(tmp_path / "w.pth", arrays)
    told = read_torch_file(tmp_path / "w.pth")
    assert list(told) == list(arrays)
    for name, array in arrays.items():
        assert told[name].dtype == array.dtype and told[name].shape == array.shape and (told[name] == array).all()


def test_a_file_that_wants_to_call_something_is_refused_and_so_is_a_short_one(tmp_path: Path, write) -> None:
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(pickle.dumps(x, protocol=2) for x in (MAGIC, 1001, {}, Evil())))
    with pytest.raises(ClassifierError, match=r"w\.pth cannot be read \(it asks for .*print"):
        read_torch_file(path)
    write(path, {"a": np.ones(100, np.float32)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_torch_file(path)
    path.write_bytes(b"PK not this format")
    with pytest.raises(ClassifierError, match="cannot be read"):
        read_torch_file(path)


def test_one_picture_or_many_give_the_same_and_the_version_is_of_the_weights(package: Path, write) -> None:
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
