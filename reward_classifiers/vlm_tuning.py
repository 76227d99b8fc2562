"""Adapting a Hugging Face vision-language model to a task's yes/no questions by LoRA (Hu et al. 2022), with RoboFuME's data.

The loss is the cross-entropy of P(yes) / (P(yes) + P(no)) at the first answer token: exactly what decides later. RoboFuME trains
one linear projector instead; `tuning_modules` can name the projector's layers.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from reward_classifiers.files import ClassifierError
from reward_classifiers.frames import FrameSet
from reward_classifiers.huggingface import HuggingFace
from reward_classifiers.trained import Progress
from reward_classifiers.vlm import robofume_batches

WARM_UP = 200
FIRST_RATE, PEAK_RATE, LAST_RATE = 1e-6, 3e-5, 1e-5
WEIGHT_DECAY = 0.05
"""Of RoboFuME's release: 200 steps from 1e-6 to 3e-5, a cosine down to 1e-5, weight decay 0.05, two pictures per step."""
RANK, ALPHA = 8, 16


def learning_rate(step: int, updates: int) -> float:
    """Linear warm-up (at most a tenth of all updates), then a cosine."""
    warm_up = min(WARM_UP, updates // 10)
    if step < warm_up:
        return FIRST_RATE + (PEAK_RATE - FIRST_RATE) * step / warm_up
    done = (step - warm_up) / max(1, updates - warm_up)
    return LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))


def tune(
    model: HuggingFace,
    frames: FrameSet,
    questions: tuple[str, ...],
    updates: int,
    batch_size: int,
    modules: str,
    seed: int,
    progress: Progress | None = None,
) -> list[float]:
    """LoRA on `modules` of `model`, in place; returns the loss before every update. `questions`: one per direction.

    Raises:
        ClassifierError: peft is missing or `modules` matches no layer.
    """
    try:
        import peft
        import torch
    except ImportError as error:
        raise ClassifierError(f"tuning needs peft ({error}): .venv/bin/pip install -e '.[rewards]'") from error
    torch.manual_seed(seed)
    try:
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=modules, init_lora_weights=True)
        model.model = peft.get_peft_model(model.model, config).to(model.device)
    except ValueError as error:
        raise ClassifierError(f"classifier.tuning_modules {modules!r} fits no layer of the model: {error}") from error
    trained = [parameter for parameter in model.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=FIRST_RATE, weight_decay=WEIGHT_DECAY)
    batches = robofume_batches(frames, batch_size, np.random.default_rng(seed))
    losses = []
    model.model.train()
    for step in range(updates):
        rows, labels, column = next(batches)
        views = list(zip(*(frames.images[name][rows, -1] for name in sorted(frames.images)), strict=True))
        logits = model.answer_logits(views, questions[column]).float()
        target = torch.as_tensor(labels, dtype=torch.float32, device=logits.device)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, updates)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if progress is not None and (step + 1) % 10 == 0:
            progress(step + 1, updates, f"tuning the model, loss {np.mean(losses[-20:]):.3f}")
    model.model.eval()
    return losses


def save_adapter(model: HuggingFace, folder: Path) -> str:
    """Write the LoRA weights into `folder` (safetensors) and return their digest."""
    model.model.save_pretrained(folder)
    return adapter_digest(folder)


def adapter_digest(folder: Path) -> str:
    """Of the weights in `folder`; empty without any."""
    path = folder / "adapter_model.safetensors"
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if path.is_file() else ""
