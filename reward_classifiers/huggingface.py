"""A Hugging Face image-text-to-text model in this process. Needs the extra ``rewards`` (torch and transformers)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from etude.clip_import import mend_torchvision
from reward_classifiers.files import ClassifierError

WORDS = {"yes": ("Yes", "yes", " Yes", " yes", "YES"), "no": ("No", "no", " No", " no", "NO")}


class HuggingFace:
    """`reward_classifiers.vlm.Answerer`. `model`, `processor`: as loaded, on `device`; tuning changes the model in place."""

    def __init__(self, name: str, adapter: Path | None = None) -> None:
        """Load a model by name or folder, with LoRA weights where `adapter` has them. Raises ClassifierError."""
        try:
            import torch

            mend_torchvision()
            import transformers
        except (ImportError, RuntimeError) as error:
            raise ClassifierError(
                f"classifier.model {name!r} needs torch and transformers ({error}): .venv/bin/pip install -e '.[rewards]', or "
                "ask a server (classifier.endpoint)"
            ) from error
        self._torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        try:
            self.processor = transformers.AutoProcessor.from_pretrained(name)
            self.model = transformers.AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
        except Exception as error:  # files, downloads and configurations fail in many ways
            raise ClassifierError(
                f"the model {name!r} cannot be loaded ({error}): give the name of an image-text-to-text model on the Hugging "
                "Face hub, or a folder with its files"
            ) from error
        if adapter is not None:
            import peft

            self.model = peft.PeftModel.from_pretrained(self.model, adapter)
        self.model.to(self.device).eval()
        self.answer_tokens = {word: self._first_tokens(name, spellings) for word, spellings in WORDS.items()}
        both = set(self.answer_tokens["yes"]) & set(self.answer_tokens["no"])
        if both:
            raise ClassifierError(f"the tokenizer of {name!r} begins yes and no with the same token: use another model")

    def log_odds(self, images: Sequence[Sequence[np.ndarray]], question: str) -> np.ndarray:
        """See `Answerer.log_odds`."""
        with self._torch.no_grad():
            return self.answer_logits(images, question).float().cpu().numpy().astype(np.float32)

    def answer_logits(self, images: Sequence[Sequence[np.ndarray]], question: str):
        """As `log_odds`, a tensor ``(B,)`` that gradients flow through."""
        logits = self.model(**self._inputs(images, question)).logits[:, -1]
        yes, no = (logits[:, self.answer_tokens[word]].logsumexp(dim=-1) for word in ("yes", "no"))
        return yes - no

    def _inputs(self, images: Sequence[Sequence[np.ndarray]], question: str):
        from PIL import Image

        pictures = [[Image.fromarray(view) for view in views] for views in images]
        prompt = self._prompt(len(images[0]), question)  # the same for all, so nothing is padded
        return self.processor(images=pictures, text=[prompt] * len(images), return_tensors="pt").to(
            self.device, dtype=self.model.dtype
        )

    def _prompt(self, views: int, question: str) -> str:
        if getattr(self.processor, "chat_template", None):
            content = [*({"type": "image"} for _ in range(views)), {"type": "text", "text": question}]
            return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        image = getattr(self.processor, "image_token", "<image>")
        return f"USER: {image * views}\n{question}\nASSISTANT:"

    def _first_tokens(self, name: str, spellings: Sequence[str]) -> list[int]:
        tokenizer = self.processor.tokenizer
        first = {tokens[0] for word in spellings if (tokens := tokenizer.encode(word, add_special_tokens=False))}
        first.discard(tokenizer.unk_token_id)
        if not first:
            raise ClassifierError(f"the tokenizer of {name!r} does not know the word {spellings[0]!r}: use another model")
        return sorted(first)
