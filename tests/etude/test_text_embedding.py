"""Texts as vectors: the same everywhere, distinct for distinct texts, near for similar ones."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from etude.clip_import import import_open_clip
from etude.text_embedding import TextEmbeddingError, embed

DIM = 128


def near(one: str, other: str) -> float:
    return float(embed("hashed", one, DIM) @ embed("hashed", other, DIM))


def test_an_embedding_is_a_fixed_unit_vector() -> None:
    vector = embed("hashed", "open the drawer", DIM)
    assert vector.shape == (DIM,) and vector.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(vector, embed("hashed", "Open  the DRAWER!", DIM))  # words, not typing
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1.0
    np.testing.assert_array_equal(embed("hashed", " ... ", DIM), np.zeros(DIM))


def test_a_single_letter_is_hashed_by_hand() -> None:
    """One word of one letter has two features: the word, and its only piece "<a>", each with weight 1."""
    vector = embed("hashed", "a", DIM)
    assert sorted(np.abs(vector[vector != 0])) == pytest.approx([math.sqrt(0.5)] * 2)


def test_another_process_makes_the_same_numbers() -> None:
    """Python's own hash differs between processes; a robot's numbers must not."""
    code = "from etude.text_embedding import embed; print(embed('hashed', 'go left', 16).tobytes().hex())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )
    assert told.stdout.strip() == embed("hashed", "go left", 16).tobytes().hex()


@pytest.mark.parametrize(
    ("text", "similar", "different"),
    [
        ("open the drawer", "open the drawers", "insert the peg into the socket"),
        ("put the block into the green zone", "place the block in the green zone", "close the drawer"),
        ("slide the knob into the blue window", "slide the knob into the green window", "fold the cloth"),
    ],
)
def test_similar_sentences_are_nearer_than_different_ones(text: str, similar: str, different: str) -> None:
    assert near(text, similar) > near(text, different) + 0.2


def test_the_two_directions_of_a_task_are_apart_even_with_the_same_words() -> None:
    assert near("move the cup from the tray to the table", "move the cup from the table to the tray") < 0.9
    assert near("open the drawer", "close the drawer") < 0.9


def test_an_unknown_kind_is_named_with_what_there_is() -> None:
    with pytest.raises(TextEmbeddingError, match=r"'bert': use 'hashed' or 'open_clip:<model>:<weights>'"):
        embed("bert", "go", DIM)


# --- CLIP -------------------------------------------------------------------------------------------------------------


def test_without_open_clip_the_remedy_is_named() -> None:
    try:
        import_open_clip()
    except (ImportError, RuntimeError):
        with pytest.raises(TextEmbeddingError, match=r"needs open_clip .*\.\[vision\]"):
            embed("open_clip:ViT-B-32:openai", "go", 512)
    else:
        pytest.skip("open_clip is installed")


def test_a_tiny_clip_of_random_weights_embeds_texts(tmp_path: Path) -> None:
    try:
        open_clip = import_open_clip()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs open_clip (extra vision): {error}")
    from safetensors.torch import save_file

    (tmp_path / "tiny.json").write_text(
        json.dumps(
            {
                "embed_dim": 16,
                "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
                "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
            }
        )
    )
    open_clip.add_model_config(tmp_path)
    model = open_clip.create_model("tiny").eval()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "tiny.safetensors")
    kind = f"open_clip:tiny:{tmp_path / 'tiny.safetensors'}"
    vector = embed(kind, "open the drawer", 16)
    expected = model.encode_text(open_clip.get_tokenizer("tiny")(["open the drawer"]), normalize=True)[0].detach().numpy()
    np.testing.assert_allclose(vector, expected, atol=1e-6)
    assert not np.array_equal(vector, embed(kind, "close the drawer", 16))
    with pytest.raises(TextEmbeddingError, match=r"instruction_dim is 8, but .* in 16 numbers"):
        embed(kind, "open the drawer", 8)
    with pytest.raises(TextEmbeddingError, match="cannot make the model 'tiny' with weights 'nowhere'"):
        embed("open_clip:tiny:nowhere", "go", 16)
