"""The reference server on a tiny, randomly initialised model of OpenVLA's layout, loaded from a folder as OpenVLA is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

PINNED = "transformers 4.40.1 and its companions are not installed: pip install -e '.[vla]' in an environment of its own"
torch = pytest.importorskip("torch", reason=PINNED)
transformers = pytest.importorskip("transformers", reason=PINNED)
pytest.importorskip("peft", reason=PINNED)
if not transformers.__version__.startswith("4.40"):
    pytest.skip(f"{PINNED} (there is {transformers.__version__})", allow_module_level=True)

from etude.policy_server import PolicyServerClient, RequestError  # noqa: E402
from policy_servers.http_server import PolicyServer  # noqa: E402
from policy_servers.openvla import PROMPT, ModelError, OpenVLA, Settings  # noqa: E402

WORDS = 300
"""Tokens of text, the last 256 of which are actions."""
STATISTICS = {"q01": [-0.03, -0.03, 0.0], "q99": [0.03, 0.03, 1.0], "mask": [True, True, False]}
INSTRUCTIONS = ("put the block on the plate", "go back", "go back")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on disk: configuration, remote code, tokeniser, random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tiny_vla")
    for file in (Path(__file__).parent / "tiny_vla").glob("*.py"):
        shutil.copy(file, folder)
    text = PROMPT.format(instruction=" ".join(INSTRUCTIONS)).replace("\n", " ").replace("?", " ?").replace(":", " :").split()
    vocabulary = {word: i for i, word in enumerate(["<s>", "<unk>", "▁", *dict.fromkeys(text)])}
    tokeniser = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    tokeniser.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokeniser, unk_token="<unk>", bos_token="<s>").save_pretrained(folder)
    text_config = {
        "vocab_size": WORDS + 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
    }
    from tiny_vla.modeling_tiny_vla import TinyVLA, TinyVLAConfig

    torch.manual_seed(0)
    config = TinyVLAConfig(text_config, {"tiny": {"action": STATISTICS}})
    TinyVLA(config).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    written["auto_map"] = {
        "AutoConfig": "modeling_tiny_vla.TinyVLAConfig",
        "AutoModelForVision2Seq": "modeling_tiny_vla.TinyVLA",
    }
    (folder / "config.json").write_text(json.dumps(written))
    auto = {"auto_map": {"AutoProcessor": "processing_tiny_vla.TinyProcessor"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(auto))
    return folder


def settings(folder: Path, **changes) -> Settings:
    """The scales are such that every token is an action inside [-1, 1]."""
    base = Settings(model=str(folder), unnorm_key="tiny", scale=(0.03, 0.03, 1.0), device="cpu", trust_remote_code=True)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def model(folder: Path) -> OpenVLA:
    torch.manual_seed(0)
    return OpenVLA(settings(folder, learning_rate=1e-2, rows_at_once=4))


def observation() -> dict[str, np.ndarray]:
    return {"image/front": np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)}


def test_samples_have_the_shape_the_range_and_the_grid_of_the_tokens(model: OpenVLA) -> None:
    action = model.sample(observation(), INSTRUCTIONS, 8, 3)
    assert action.shape == (8, 3, 3) and action.dtype == np.float32 and np.abs(action).max() <= 1.0
    assert np.unique(action[:, 0, 0]).size > 4, "at temperature 1 candidates differ"
    np.testing.assert_array_equal(action, model.sample(observation(), INSTRUCTIONS, 8, 3), err_msg="the same seed")
    assert (action != model.sample(observation(), INSTRUCTIONS, 8, 4)).any()
    numbers = model._tokens.to_tokens(action)
    assert numbers.min() >= WORDS - 256 and numbers.max() < WORDS
    np.testing.assert_allclose(model._tokens.from_tokens(numbers), action, atol=1e-6)


def test_sampling_follows_the_model_left_to_right(model: OpenVLA) -> None:
    """The greedy action is the argmax of one teacher-forced pass over itself, of whatever rows it is asked with."""
    original = model._settings
    model._settings = dataclasses.replace(original, temperature=0.0)
    try:
        action = model.sample(observation(), INSTRUCTIONS, 1, 0)
        alone = model.sample({"image/front": observation()["image/front"][1:2]}, INSTRUCTIONS[1:2], 1, 0)
        with pytest.raises(RequestError, match="temperature 0"):
            model.sample(observation(), INSTRUCTIONS, 2, 0)
        for rows, prompt, pixels in model._groups(observation(), INSTRUCTIONS):
            assert model._processor.tokenizer.convert_ids_to_tokens(prompt[0])[-1] == "▁"
            numbers = torch.as_tensor(model._tokens.to_tokens(action[0, rows]))
            with torch.no_grad():
                logits = model._logits(torch.cat([prompt, numbers], 1), pixels)[:, -4:-1, WORDS - 256 : WORDS]
            np.testing.assert_array_equal(logits.argmax(-1) + WORDS - 256, numbers)
    finally:
        model._settings = original
    np.testing.assert_allclose(action[0, 1:2], alone[0], atol=1e-6)


def test_distilling_lowers_the_loss_raises_the_version_and_moves_only_lora(model: OpenVLA) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model._model.named_parameters()}
    version, action = model.info().version, np.array([[0.9, -0.9, 0.8], [-0.5, 0.5, -0.8], [-0.5, 0.5, -0.8]], np.float32)
    losses = [model.distil(observation(), INSTRUCTIONS, action) for _ in range(40)]
    assert losses[0] == pytest.approx(np.log(WORDS + 64), abs=1.0), "a random model knows nothing"
    assert losses[-1] < 0.3 * losses[0]
    assert model.info().version == version + 40
    moved = {name for name, parameter in model._model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved and all("lora_" in name for name in moved)
    layers = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in moved}
    assert layers >= {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "projector"}, (
        "all linear layers"
    )
    near = np.abs(model.sample(observation(), INSTRUCTIONS, 32, 0) - action).max(-1) < 0.05
    assert near.mean() > 0.3, "it now samples what it was taught"


def test_lora_weights_survive_a_restart(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = OpenVLA(settings(folder, learning_rate=1e-2, adapter=tmp_path / "adapter"))
    action = np.zeros((3, 3), np.float32)
    first.distil(observation(), INSTRUCTIONS, action)
    first.save()
    torch.manual_seed(1)
    second = OpenVLA(settings(folder, learning_rate=1e-2, adapter=tmp_path / "adapter"))
    np.testing.assert_array_equal(*(one.sample(observation(), INSTRUCTIONS, 4, 0) for one in (first, second)))
    assert second.distil(observation(), INSTRUCTIONS, action) == pytest.approx(first.distil(observation(), INSTRUCTIONS, action))


def test_it_serves(model: OpenVLA) -> None:
    server = PolicyServer(model, port=0)
    server.start()
    client = PolicyServerClient(server.address, 20.0)
    info = client.require(("state", "image/front"), 3)
    samples = client.sample(info, observation() | {"state": np.zeros((3, 2), np.float32)}, INSTRUCTIONS, 4, 0)
    answer = client.distil(info, observation(), INSTRUCTIONS, samples.action[0])
    assert samples.action.shape == (4, 3, 3) and answer.version == samples.version + 1 and np.isfinite(answer.loss)
    server.close()


def test_a_wrong_data_set_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"'bridge_orig': name one of \['tiny'\]"):
        OpenVLA(settings(folder, unnorm_key="bridge_orig"))
    with pytest.raises(ModelError, match="--scale"):
        OpenVLA(settings(folder, scale=(1.0,)))
