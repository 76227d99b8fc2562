"""Yes/no questions to a vision-language model: the endpoint, the worker with its deadline, the data recipe, a tiny real model."""

from __future__ import annotations

import http.server
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dot_world import GOALS, Writer, dot, dot_config

from benchmarks.random_models import random_vlm
from etude.config import ClassifierConfig
from etude.specs import PHASES
from reward_classifiers import ClassifierError, load_judge, train_classifier
from reward_classifiers.calibration import Calibration
from reward_classifiers.endpoint import Endpoint, EndpointError, log_odds_of
from reward_classifiers.frames import FrameSet, label_segment
from reward_classifiers.judge import ImageJudge, with_deadline
from reward_classifiers.vlm import ROBOFUME_RULES, VlmBackend, question_of, robofume_batches, thinned
from reward_classifiers.worker import DeadlineJudge


def answer(**probabilities: float) -> dict:
    tokens = [{"token": token, "logprob": math.log(p)} for token, p in probabilities.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": tokens}]}}]}


def test_log_odds_add_up_the_spellings() -> None:
    told = log_odds_of(answer(Yes=0.3, yes=0.1, No=0.2, The=0.4), "here")
    assert told == pytest.approx(math.log(0.4 / 0.2))


def test_a_word_that_is_not_listed_has_at_most_the_smallest_listed_probability() -> None:
    assert log_odds_of(answer(Yes=0.9, Sure=0.01), "here") == pytest.approx(math.log(0.9 / 0.01))
    assert log_odds_of(answer(no=0.9, Nope=0.02), "here") == pytest.approx(math.log(0.02 / 0.9))


def test_a_word_of_no_probability_at_all_decides_and_two_of_them_are_refused() -> None:
    listed = lambda yes, no: {  # noqa: E731
        "choices": [
            {"logprobs": {"content": [{"top_logprobs": [{"token": "yes", "logprob": yes}, {"token": "no", "logprob": no}]}]}}
        ]
    }
    assert log_odds_of(listed(-0.1, -math.inf), "here") == 30.0
    assert log_odds_of(listed(-math.inf, -0.1), "here") == -30.0
    with pytest.raises(EndpointError, match="not numbers"):
        log_odds_of(listed(-math.inf, -math.inf), "here")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (answer(Maybe=0.9), "neither yes nor no but 'maybe'"),
        ({}, "gives no log-prob"),
        ({"choices": [{"logprobs": None}]}, "vLLM"),
    ],
)
def test_other_answers_are_said(told: dict, message: str) -> None:
    with pytest.raises(EndpointError, match=message):
        log_odds_of(told, "here")


# --- a server on this machine ------------------------------------------------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Looks at the picture that it is sent: yes where the dot is right (asked about forward) or left (backward)."""

    delay_s = 0.0
    down = False
    asked: list[dict]

    def do_POST(self) -> None:
        import base64
        import io

        from PIL import Image

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body)
        content = body["messages"][0]["content"]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2]))))
        x = picture[7, :, 0].argmax() / (picture.shape[1] - 3)
        met = GOALS["forward" if "right" in content[-1]["text"] else "backward"](x)
        time.sleep(self.delay_s)
        data = json.dumps(answer(Yes=0.9, No=0.1) if met else answer(Yes=0.2, No=0.8)).encode()
        if self.down:
            self.send_error(503, "the model is being loaded")
            return
        if body["model"] != "eye":
            self.send_error(404, "no such model")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Server]]]:
    handler = type("Handler", (Server,), {"asked": []})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", handler
    httpd.shutdown()
    httpd.server_close()


def vlm_config(endpoint: str, **settings):
    config = dot_config()
    chosen = ClassifierConfig(backend="vlm", model="eye", endpoint=endpoint, deadline_s=0.5, calibration_frames=10, **settings)
    reward = config.recipe.reward.model_copy(update={"classifier": chosen})
    forward = config.task.forward.model_copy(update={"question": "Is the dot on the right? Yes or no."})
    backward = config.task.backward.model_copy(update={"question": "Is the dot on the left? Yes or no."})
    return config.model_copy(
        update={
            "recipe": config.recipe.model_copy(update={"reward": reward}),
            "task": config.task.model_copy(update={"forward": forward, "backward": backward}),
        }
    )


def test_an_endpoint_is_asked_the_direction_s_question_and_calibrated(
    server: tuple[str, type[Server]], dot_stores, tmp_path: Path
) -> None:
    url, handler = server
    report = train_classifier(dot_stores[0], vlm_config(url), tmp_path / "c", 0, None, dot_stores[1])
    recall = report["phases"]["forward"]["held_out"]["recall"]["value"]
    assert recall >= 0.9, "all, but that of a demonstration's last three frames, successes by rule, the first may not show it yet"
    assert handler.asked[0]["max_tokens"] == 1 and handler.asked[0]["logprobs"] is True, "one token, never sampled text"
    judge = load_judge(tmp_path / "c")
    assert judge.name.startswith("vlm:") and judge.doubt(dot(0.9), "forward") == 0.0
    assert judge.probability(dot(0.95), "forward") >= judge.threshold("forward") > judge.probability(dot(0.4), "forward")
    assert judge.probability(dot(0.05), "backward") >= judge.threshold("backward")


def test_an_endpoint_that_is_down_slow_or_lacks_the_model_is_named(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    frame = [[dot(0.5)["image/top"]]]
    with pytest.raises(EndpointError, match=r"(?s)refuses \(404.*classifier.model 'ear'"):
        Endpoint(url, "ear").log_odds(frame, "right?")
    with pytest.raises(EndpointError, match=r"does not answer .*start the server"):
        Endpoint("http://127.0.0.1:9", "eye").log_odds(frame, "right?")
    handler.delay_s = 0.3
    with pytest.raises(EndpointError, match="does not answer"):
        Endpoint(url, "eye", timeout_s=0.05).log_odds(frame, "right?")


# --- the worker --------------------------------------------------------------------------------------------------------


class Slow:
    name = "slow:0"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.error, self.forgotten = seconds, "", 0

    def probability(self, observation, phase: str) -> float:
        time.sleep(self.seconds)
        if self.error:
            raise EndpointError(self.error)
        return float(observation["state"][0])

    def doubt(self, observation, phase: str) -> float:
        return 0.2

    def threshold(self, phase: str) -> float:
        return 0.5

    def forget(self) -> None:
        self.forgotten += 1


def ask(judge: DeadlineJudge, seconds: float, phase: str = "forward") -> list[float]:
    """Answers of a loop at about 200 Hz."""
    answers, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        answers.append(judge.probability(dot(0.9), phase))
        time.sleep(0.005)
    return answers


def test_the_loop_never_waits_and_every_look_is_answered_once() -> None:
    slow = Slow(0.5)
    judge = DeadlineJudge(slow, deadline_s=5.0)
    started = time.monotonic()
    assert math.isnan(judge.probability(dot(0.9), "forward"))
    assert time.monotonic() - started < 0.45, "it did not wait for the look"
    slow.seconds = 0.05  # the looks from now on
    answers = ask(judge, 1.0)
    given = [a for a in answers if not math.isnan(a)]
    assert given and given == pytest.approx([0.9] * len(given)) and len(given) <= 1.1 / 0.05
    assert judge.answered == len(given) and judge.doubt(dot(0.9), "forward") == 0.2
    judge.close()


def test_late_answers_and_those_of_the_other_direction_do_not_count() -> None:
    late = DeadlineJudge(Slow(0.1), deadline_s=0.01, missed=0.0)
    assert set(ask(late, 0.5)) == {0.0} and late.missed_deadlines > 0
    late.close()
    judge = DeadlineJudge(Slow(0.02), deadline_s=5.0)
    judge.probability(dot(0.9), "forward")
    time.sleep(0.2)
    assert math.isnan(judge.probability(dot(0.9), "backward"))
    judge.close()


def test_answers_about_the_attempt_before_do_not_count() -> None:
    slow = Slow(0.1)
    judge = DeadlineJudge(slow, deadline_s=5.0)
    judge.probability(dot(0.9), "forward")
    time.sleep(0.03)  # the thread looks at it now
    judge.probability(dot(0.9), "forward")  # and this one waits for its turn
    judge.forget()
    time.sleep(0.4)
    assert slow.forgotten == 0, "the judge itself is told by the thread that asks it"
    assert math.isnan(judge.probability(dot(0.1), "forward"))
    end, answer = time.monotonic() + 5.0, math.nan
    while time.monotonic() < end and math.isnan(answer):
        time.sleep(0.01)
        answer = judge.probability(dot(0.1), "forward")
    assert answer == pytest.approx(0.1) and slow.forgotten == 1
    judge.close()


def test_a_judge_that_fails_gives_no_answers_and_comes_back() -> None:
    slow = Slow(0.0)
    slow.error = "endpoint down"
    judge = DeadlineJudge(slow, deadline_s=0.05)
    assert all(map(math.isnan, ask(judge, 0.3))) and judge.problem == "endpoint down" and judge.failures >= 1
    slow.error = ""
    end = time.monotonic() + 5.0
    while time.monotonic() < end and math.isnan(judge.probability(dot(0.9), "forward")):
        time.sleep(0.002)
    assert judge.problem == "" and judge.answered >= 1
    judge.close()


def test_an_endpoint_that_goes_down_and_slow_in_the_middle_gives_no_answers_until_it_is_back(
    server: tuple[str, type[Server]],
) -> None:
    url, handler = server
    questions = {"forward": "right?", "backward": "left?"}
    backend = VlmBackend(Endpoint(url, "eye", timeout_s=0.3), {"top": (16, 16)}, questions, 1)
    judge = DeadlineJudge(ImageJudge(backend, Calibration.uniform(1), "0" * 16, {}), deadline_s=0.5)

    def answered() -> bool:
        return any(not math.isnan(answer) for answer in ask(judge, 0.1))

    def wait_for(condition) -> None:
        end = time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < end, judge.problem

    wait_for(answered)
    for trouble, message in (("down", "refuses (503"), ("slow", "does not answer")):
        handler.down, handler.delay_s = trouble == "down", 1.0 if trouble == "slow" else 0.0
        wait_for(lambda said=message: not answered() and said in judge.problem)
        assert not answered() and judge.failures >= 1
        handler.down, handler.delay_s = False, 0.0
        wait_for(answered)
        assert judge.problem == ""
    judge.close()


def test_a_deadline_puts_the_judge_beside_the_loop(dot_classifier) -> None:
    judge = with_deadline(load_judge(dot_classifier[0]), ClassifierConfig(deadline_s=1.0))
    assert isinstance(judge, DeadlineJudge) and judge.name.startswith("cnn:")
    judge.close()


# --- data ----------------------------------------------------------------------------------------------------------------


def test_robofume_s_frames(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    writer.segment("forward", list(np.linspace(0, 0.9, 30)), terminal=True)
    writer.segment("forward", [0.5] * 5, terminal=False)
    store = writer.done()
    demonstration, failure = (label_segment(store.read(info), "forward", ROBOFUME_RULES)[:, 0] for info in store.segments())
    assert demonstration.tolist() == [0] * 17 + [-1] * 10 + [1] * 3
    assert failure.tolist() == [0] * 5


def test_half_of_every_batch_are_successes() -> None:
    labels = np.array([[1, 0]] * 3 + [[0, 1]] * 40 + [[0, -1]] * 7, np.int8)
    frames = FrameSet({}, np.zeros((50, 0), np.float32), labels, np.arange(50, dtype=np.int32), labels)
    batches = robofume_batches(frames, 8, np.random.default_rng(0))
    for column in (0, 1, 0, 1):
        rows, label, asked = next(batches)
        assert asked == column and label.sum() == 4 and (labels[rows, column] == label).all()
    few = thinned(frames, 5, np.random.default_rng(0))
    assert few.count("forward")[0] == few.count("backward")[1] == 3 and len(few) <= 3 + 5 + 5


def test_questions_come_from_the_task() -> None:
    task = vlm_config("http://127.0.0.1:9").task
    assert question_of(task, "forward") == "Is the dot on the right? Yes or no."
    assert "move the dot" in question_of(dot_config().task, "backward") and set(PHASES) == {"forward", "backward"}


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs classifier\.model"):
        ClassifierConfig(backend="vlm", deadline_s=1.0)
    with pytest.raises(ValueError, match="too slow for the control loop"):
        ClassifierConfig(backend="vlm", model="m")


def test_without_transformers_the_remedy_is_named() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError:
        from reward_classifiers.huggingface import HuggingFace

        with pytest.raises(ClassifierError, match=r"\.\[rewards\]"):
            HuggingFace("any")
    else:
        pytest.skip("transformers is installed")


# --- a tiny model of random weights ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a LLaVA of one layer with random weights and a tokenizer of a dozen words."""
    torch = pytest.importorskip("torch", reason="needs the extra rewards")
    pytest.importorskip("transformers", reason="needs the extra rewards")
    torch.set_num_threads(1)
    return random_vlm(tmp_path_factory.mktemp("tiny-vlm"), gain=10.0)


def test_the_answer_is_a_ratio_of_probabilities_and_batches_agree_with_single_frames(tiny_vlm: str) -> None:
    import torch

    from reward_classifiers.huggingface import HuggingFace

    model = HuggingFace(tiny_vlm)
    frames = [[dot(x)["image/top"], dot(x)["image/top"]] for x in (0.1, 0.5, 0.9)]
    together = model.log_odds(frames, "is it done ?")
    assert together.shape == (3,) and np.isfinite(together).all() and np.ptp(together) > 0.0
    np.testing.assert_allclose(together, [model.log_odds([frame], "is it done ?")[0] for frame in frames], atol=1e-5)
    with torch.no_grad():
        probability = model.model(**model._inputs(frames[:1], "is it done ?")).logits[0, -1].softmax(dim=0)
    ratio = (probability[6] + probability[7]) / (probability[8] + probability[9])  # yes, Yes, no, No
    assert math.log(ratio) == pytest.approx(float(together[0]), abs=1e-4)
    assert model.answer_tokens == {"yes": [6, 7], "no": [8, 9]}


def test_a_model_that_is_not_there_is_named(tiny_vlm: str, tmp_path: Path) -> None:
    from reward_classifiers.huggingface import HuggingFace

    with pytest.raises(ClassifierError, match="cannot be loaded"):
        HuggingFace(str(tmp_path))


def test_lora_learns_which_frames_are_yes_and_is_kept_with_the_classifier(tiny_vlm: str, dot_stores, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra rewards")
    from reward_classifiers import vlm_tuning
    from reward_classifiers.huggingface import HuggingFace

    model = HuggingFace(tiny_vlm)
    left, right = dot(0.05)["image/top"], dot(0.95)["image/top"]
    labels = np.array([[1, 1], [0, 0]], np.int8)
    frames = FrameSet({"top": np.stack([right, left])[:, None]}, np.zeros((2, 0)), labels, np.arange(2, dtype=np.int32), labels)
    with pytest.MonkeyPatch.context() as patch:
        for rate in ("FIRST_RATE", "PEAK_RATE", "LAST_RATE"):
            patch.setattr(vlm_tuning, rate, 1e-2)
        losses = vlm_tuning.tune(model, frames, ("is it done ?", "done ?"), 80, 4, "all-linear", 0)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert model.log_odds([[right]], "is it done ?") > model.log_odds([[left]], "is it done ?") + 0.5
    with pytest.raises(ClassifierError, match="fits no layer"):
        vlm_tuning.tune(HuggingFace(tiny_vlm), frames, ("a", "b"), 1, 2, "nothing.*", 0)

    config = vlm_config("", tuning_updates=2)
    chosen = config.recipe.reward.classifier.model_copy(update={"model": tiny_vlm})
    reward = config.recipe.reward.model_copy(update={"classifier": chosen})
    config = config.model_copy(update={"recipe": config.recipe.model_copy(update={"reward": reward})})
    train_classifier(dot_stores[0], config, tmp_path / "c", 0, None, dot_stores[1])
    assert 0.0 < load_judge(tmp_path / "c").probability(dot(0.5), "forward") < 1.0
    (tmp_path / "c" / "adapter" / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(ClassifierError, match="does not hold the tuned weights"):
        load_judge(tmp_path / "c")


def test_the_learning_rate_is_robofume_s() -> None:
    from reward_classifiers.vlm_tuning import learning_rate

    rates = [learning_rate(step, 10_000) for step in range(10_000)]
    assert rates[0] == 1e-6 and rates[200] == pytest.approx(3e-5) == max(rates) and rates[-1] == pytest.approx(1e-5, rel=1e-3)
