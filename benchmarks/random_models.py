"""Pretrained models' shapes with random weights, written to disk as the real ones lie there: what they cost, not what they know.

Loading and running them is the project's real code; a machine without a network can so measure and test it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etude.clip_import import import_open_clip, mend_torchvision

VOCABULARY = ("<unk>", "<pad>", "<image>", "USER", ":", "ASSISTANT", "yes", "Yes", "no", "No", "is", "it", "done", "?")
TINY_SIGHT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TINY_SPEECH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIGHT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
"""ViT-L/14 at 224 pixels: 256 tokens a view."""
SPEECH = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
"""Like Llama 3.2 1B, without its large vocabulary."""


def random_clip(model: str, folder: Path) -> str:
    """Encoder specification of an open_clip `model` with random weights in `folder`. Raises ImportError."""
    open_clip = import_open_clip()
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tensors = open_clip.create_model(model).state_dict()
    path = folder / f"{model}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return f"open_clip:{model}:{path}"


def random_vlm(folder: Path, sight: dict[str, Any] = TINY_SIGHT, speech: dict[str, Any] = TINY_SPEECH, gain: float = 1.0) -> str:
    """`folder`, with a LLaVA of random weights and a tokenizer of a dozen words. Raises ImportError without the extra rewards.

    Args:
        sight, speech: settings of transformers' CLIPVisionConfig and LlamaConfig; without them one layer that says little.
        gain: weights are multiplied by it; the usual start is for wide networks, in a narrow one nothing of the picture arrives.
    """
    import torch

    mend_torchvision()
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", extra_special_tokens={"image_token": "<image>"}
    )
    image_token = VOCABULARY.index("<image>")
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sight),
        text_config=transformers.LlamaConfig(vocab_size=len(VOCABULARY), **speech),
        image_token_index=image_token,
        image_token_id=image_token,
    )
    torch.manual_seed(0)
    # drawn where the model will run: a large one takes minutes on a CPU
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(gain)
    model.save_pretrained(folder)
    size = {"height": sight["image_size"], "width": sight["image_size"]}
    transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(size=size, do_center_crop=False),
        tokenizer=fast,
        patch_size=sight["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return str(folder)
