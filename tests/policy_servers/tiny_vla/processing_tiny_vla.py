"""Words and pictures for the tiny model, called like OpenVLA's processor."""

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast


class TinyProcessor:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoProcessor"):
        pass

    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        return cls(PreTrainedTokenizerFast.from_pretrained(folder))

    def __call__(self, text, image):
        pixels = torch.as_tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1) / 127.5 - 1.0
        return {"input_ids": torch.tensor([self.tokenizer(text)["input_ids"]]), "pixel_values": pixels[None]}
