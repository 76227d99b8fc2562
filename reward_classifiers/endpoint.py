"""A vision-language model behind an OpenAI-compatible endpoint, such as a vLLM server: log-odds of yes against no."""

from __future__ import annotations

import base64
import http.client
import io
import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from reward_classifiers.files import ClassifierError

TOP_TOKENS = 20
AT_ONCE = 8


class EndpointError(ClassifierError):
    """The endpoint is down, too slow, or answers something else than expected; the message names it and the remedy."""


class Endpoint:
    """`reward_classifiers.vlm.Answerer` over HTTP."""

    def __init__(self, url: str, model: str, timeout_s: float = 30.0) -> None:
        self._url = url.rstrip("/") + "/v1/chat/completions"
        self._model, self._timeout_s = model, timeout_s

    def log_odds(self, images: Sequence[Sequence[np.ndarray]], question: str) -> np.ndarray:
        """See `Answerer.log_odds`. Raises EndpointError."""
        if len(images) == 1:
            return np.array([self._ask(images[0], question)], np.float32)
        with ThreadPoolExecutor(min(AT_ONCE, len(images))) as pool:
            return np.array(list(pool.map(lambda views: self._ask(views, question), images)), np.float32)

    def _ask(self, views: Sequence[np.ndarray], question: str) -> float:
        pictures = [{"type": "image_url", "image_url": {"url": _data_url(view)}} for view in views]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": question}]}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": TOP_TOKENS,
        }
        request = urllib.request.Request(self._url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            said = error.read(300).decode(errors="replace")
            raise EndpointError(
                f"endpoint {self._url} refuses ({error.code}: {said}): check recipe.reward.classifier.model {self._model!r}, and "
                "that the model takes images"
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:  # refused, timed out, cut short, not JSON
            raise EndpointError(
                f"endpoint {self._url} does not answer ({error}): start the server, or correct recipe.reward.classifier.endpoint"
            ) from error
        return log_odds_of(answer, self._url)


def log_odds_of(answer: Any, url: str) -> float:
    """log P(yes) − log P(no) at the first answer token of a chat completion with log-probabilities.

    A word that is not among the listed tokens gets the smallest listed probability, which is more than it has. Raises
    EndpointError when neither is there or log-probabilities are missing.
    """
    try:
        listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = [(str(one["token"]).strip().lower(), float(one["logprob"])) for one in listed]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EndpointError(
            f"endpoint {url} gives no log-probabilities of tokens: use a server that supports logprobs, such as vLLM"
        ) from error
    words = {word: [p for token, p in found if token == word] for word in ("yes", "no")}
    if not any(words.values()):
        raise EndpointError(
            f"endpoint {url} answers neither yes nor no but {found[0][0]!r}: word the question so that it asks for one of them"
            if found
            else f"endpoint {url} lists no tokens"
        )
    floor = min(p for _, p in found)
    yes, no = (np.logaddexp.reduce(words[word]) if words[word] else floor for word in ("yes", "no"))
    if math.isnan(yes) or math.isnan(no) or yes == no == -math.inf:
        raise EndpointError(f"endpoint {url} gives log-probabilities of yes and no that are not numbers: {yes}, {no}")
    return float(np.clip(yes - no, -30.0, 30.0))


def _data_url(view: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(view).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
