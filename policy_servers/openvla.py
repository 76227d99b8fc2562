"""The reference model of a policy server: OpenVLA (Kim et al. 2024) and models of its layout, adapted by LoRA.

Sampling at a temperature gives the distinct candidates that PA-RL needs; distillation is cross-entropy on the action tokens with
the constants of PA-RL's OpenVLA experiments (Mark et al. 2024). Needs the extra ``vla``: torch, transformers and peft.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from PIL import Image

from etude.policy_server import RequestError, ServerInfo
from policy_servers.action_tokens import ActionTokens

PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
SAVE_EVERY_STEPS = 50


class ModelError(RuntimeError):
    """The model cannot be served as asked; the message names the setting and the remedy."""


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        model: name on the Hugging Face hub, or a folder.
        revision: commit of the hub's repository; None is its newest one.
        trust_remote_code: run the Python files that come with the model, as OpenVLA needs it.
        unnorm_key: whose action statistics are used, a key of the model's ``norm_stats``.
        camera: which of the robot's cameras it sees.
        dims, scale, offset: from the data set's actions to the robot's, see `policy_servers.action_tokens`.
        temperature: of sampling; 0 is greedy and allows one candidate only.
        adapter: folder that keeps the LoRA weights over a restart; None keeps nothing.
        rows_at_once: sequences per forward pass; less needs less memory.
    """

    model: str
    unnorm_key: str
    scale: tuple[float, ...]
    dims: tuple[int, ...] | None = None
    offset: tuple[float, ...] | None = None
    camera: str = "front"
    temperature: float = 1.0
    revision: str | None = None
    trust_remote_code: bool = False
    device: str = "cuda"
    adapter: Path | None = None
    rows_at_once: int = 16
    lora_rank: int = 32
    lora_alpha: int = 16
    learning_rate: float = 2e-5


class OpenVLA:
    """A `policy_servers.http_server.Model`."""

    def __init__(self, settings: Settings) -> None:
        """Load model and processor, and put fresh or stored LoRA weights around it. Raises ModelError."""
        self._settings = settings
        self._dtype = torch.float32 if settings.device == "cpu" else torch.bfloat16
        trust = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
        self._processor = transformers.AutoProcessor.from_pretrained(settings.model, **trust)
        base = transformers.AutoModelForVision2Seq.from_pretrained(
            settings.model, torch_dtype=self._dtype, low_cpu_mem_usage=True, **trust
        )
        self._tokens = _action_tokens(base.config, settings)
        stored = settings.adapter
        if stored is not None and (stored / "adapter_config.json").is_file():
            self._model = peft.PeftModel.from_pretrained(base, stored, is_trainable=True)
        else:
            lora = peft.LoraConfig(
                r=settings.lora_rank,
                lora_alpha=settings.lora_alpha,
                lora_dropout=0.0,
                target_modules="all-linear",
                init_lora_weights="gaussian",
            )
            self._model = peft.get_peft_model(base, lora)
        self._model.to(settings.device).eval()
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()  # steps of 2e-5 are lost in bfloat16
        self._optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate)
        self._version = int(time.time())
        self._steps = 0

    def info(self) -> ServerInfo:
        name = f"{self._settings.model} ({self._settings.unnorm_key})"
        return ServerInfo(name, self._version, len(self._tokens.dims), (f"image/{self._settings.camera}",))

    def sample(self, observation: dict[str, np.ndarray], instructions: tuple[str, ...], n: int, seed: int) -> np.ndarray:
        """See `Model.sample`. Drawn among the 256 action tokens, left to right. Raises RequestError for n > 1 greedy ones."""
        if n > 1 and self._settings.temperature == 0:
            raise RequestError("at temperature 0 all candidates are the same: ask for one, or serve with --temperature 1")
        generator = torch.Generator(self._settings.device).manual_seed(seed)
        actions = np.empty((n, len(instructions), len(self._tokens.dims)), np.float32)
        with torch.no_grad():
            for rows, prompt, pixels in self._groups(observation, instructions):
                first = self._next_token_logits(prompt, pixels)  # the same for all n of a row
                tokens = self._draw(first.repeat_interleave(n, 0), generator)[:, None]
                prompt, pixels = prompt.repeat_interleave(n, 0), pixels.repeat_interleave(n, 0)
                while tokens.shape[1] < len(self._tokens.low):
                    logits = self._next_token_logits(torch.cat([prompt, tokens], dim=1), pixels)
                    tokens = torch.cat([tokens, self._draw(logits, generator)[:, None]], dim=1)
                decoded = self._tokens.from_tokens(tokens.cpu().numpy())
                actions[:, rows] = decoded.reshape(len(rows), n, -1).swapaxes(0, 1)
        return actions

    def distil(self, observation: dict[str, np.ndarray], instructions: tuple[str, ...], action: np.ndarray) -> float:
        """One AdamW step on the mean cross-entropy of the action tokens; the loss before it."""
        wanted = torch.as_tensor(self._tokens.to_tokens(action), device=self._settings.device)
        total = 0.0
        self._model.train()
        self._optimiser.zero_grad(set_to_none=True)
        for rows, prompt, pixels in self._groups(observation, instructions):
            for part in torch.arange(len(rows)).split(self._settings.rows_at_once):
                labels = wanted[torch.as_tensor(rows)[part]]
                logits = self._logits(torch.cat([prompt[part], labels], dim=1), pixels[part])
                logits = logits[:, -labels.shape[1] - 1 : -1]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / wanted.numel()
                loss.backward()
                total += float(loss.detach())
        self._optimiser.step()
        self._model.eval()
        self._version += 1
        self._steps += 1
        if self._steps % SAVE_EVERY_STEPS == 0:
            self.save()
        return total

    def save(self) -> None:
        """Write the LoRA weights into the adapter's folder, if there is one."""
        if self._settings.adapter is not None:
            self._model.save_pretrained(self._settings.adapter)

    def _groups(
        self, observation: dict[str, np.ndarray], instructions: tuple[str, ...]
    ) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Rows of one instruction each, so that nothing is padded: row numbers, prompt tokens ``(R, L)``, pixels ``(R, …)``."""
        images = observation[f"image/{self._settings.camera}"]
        for instruction in dict.fromkeys(instructions):
            rows = [i for i, text in enumerate(instructions) if text == instruction]
            prompt = PROMPT.format(instruction=instruction.lower())
            inputs = [self._processor(prompt, Image.fromarray(images[row])) for row in rows]
            tokens = torch.cat([torch.as_tensor(each["input_ids"]) for each in inputs])
            # training sequences have the tokeniser's empty word (▁) between the colon and the action
            space = self._processor.tokenizer.convert_tokens_to_ids("▁")
            if space not in (None, self._processor.tokenizer.unk_token_id) and int(tokens[0, -1]) != space:
                tokens = torch.cat([tokens, torch.full((len(rows), 1), space)], dim=1)
            pixels = torch.cat([torch.as_tensor(each["pixel_values"]) for each in inputs])
            yield rows, tokens.to(self._settings.device), pixels.to(self._settings.device, self._dtype)

    def _logits(self, tokens: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """``(R, patches + L, vocabulary)`` float32: the model puts its image patches among the tokens, before the prompt."""
        device = torch.device(self._settings.device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._dtype is torch.bfloat16):
            output = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens), pixel_values=pixels)
        return output.logits.float()

    def _next_token_logits(self, tokens: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """``(R, 256)``: of the action tokens, lowest token first."""
        parts = zip(tokens.split(self._settings.rows_at_once), pixels.split(self._settings.rows_at_once), strict=True)
        logits = torch.cat([self._logits(*part)[:, -1] for part in parts])
        return logits[:, self._tokens.first_token : self._tokens.vocabulary]

    def _draw(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self._settings.temperature == 0:
            chosen = logits.argmax(-1)
        else:
            chosen = torch.multinomial((logits / self._settings.temperature).softmax(-1), 1, generator=generator)[:, 0]
        return chosen + self._tokens.first_token


def _action_tokens(config: Any, settings: Settings) -> ActionTokens:
    statistics = getattr(config, "norm_stats", None) or {}
    if settings.unnorm_key not in statistics:
        raise ModelError(f"{settings.model} has no action statistics {settings.unnorm_key!r}: name one of {sorted(statistics)}")
    # the embedding is padded; the tokeniser's vocabulary, whose end the actions are, is not
    vocabulary = config.text_config.vocab_size - config.pad_to_multiple_of
    try:
        return ActionTokens.of(
            vocabulary, statistics[settings.unnorm_key]["action"], settings.dims, settings.scale, settings.offset
        )
    except ValueError as error:
        raise ModelError(f"--dims, --scale and --offset do not fit {settings.unnorm_key}: {error}") from error
