"""The axes of a recipe (docs/architecture.md §2), one class each: what may be chosen, and what it means. Units are in names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from etude.config.classifier import ClassifierConfig
from etude.config.model import Model


class CriticConfig(Model):
    kind: Literal["td", "cql", "cal_ql", "iql", "none"] = "td"
    ensemble: int = Field(2, ge=1)
    subset_min: int = Field(2, ge=1, description="Members whose minimum makes the target (REDQ).")
    subset_with_replacement: bool = Field(False, description="Draw the subset with replacement, as PA-RL does.")
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = True
    discount: float = Field(0.96, gt=0, lt=1)
    tau: float = Field(0.005, gt=0, le=1)
    learning_rate: float = Field(5e-4, gt=0)
    acting: Literal["newest", "target"] = Field(
        "newest",
        description="Which critics improve the actions that the robot executes (pa_rl): the newest, as PA-RL's, or the target "
        "ones, which move slowly (tau) and judge more steadily.",
    )
    backup_entropy: bool = False
    bound_targets: bool = Field(
        False, description="Clip targets to the returns that the recipe's rewards allow; stops values from growing without end."
    )
    pessimistic_reward: float | None = Field(
        None, le=0, description="PAINT: reward per step for ever after an irreversible state (R_min); None leaves targets alone."
    )
    head: Literal["scalar", "hl_gauss"] = Field(
        "scalar", description="hl_gauss: a histogram of returns, trained by cross-entropy."
    )
    value_min: float = Field(-100.0, description="Lowest return of the histogram.")
    value_max: float = Field(0.0, description="Highest return of the histogram.")
    value_bins: int = Field(128, ge=2)
    value_sigma_bins: float = Field(
        0.75, gt=0, description="Width of the target's Gaussian in bins; 1.06 is what PA-RL's release computes (0.75 times √2)."
    )
    # cql and cal_ql only (specs: Cal-QL §1.1)
    cql_weight: float = Field(1.0, ge=0)
    cql_online_weight: float | None = Field(
        None, ge=0, description="Weight of the conservative term while practising; None keeps cql_weight."
    )
    cql_samples: int = Field(10, ge=1)
    cql_importance_sampling: bool = True
    cql_max_target_backup: bool = True
    cql_temperature: float = Field(1.0, gt=0)
    cql_lagrange_gap: float | None = None
    # iql only
    expectile: float = Field(0.7, gt=0, lt=1)


WithDensity = Literal["gaussian"]
WithoutDensity = Literal["diffusion", "flow", "autoregressive", "external"]
"""Policy classes by whether their actions have a log density, which `gradient`, importance sampling and entropy need."""


class PolicyConfig(Model):
    kind: Literal[WithDensity, WithoutDensity] = "gaussian"
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = True
    learning_rate: float = Field(5e-4, gt=0)
    online_learning_rate: float | None = Field(None, gt=0, description="While practising; None keeps learning_rate.")
    warmup_steps: int = Field(
        0,
        ge=0,
        description="Policy updates in which its learning rate rises from 0, also after data.reset_optimisers (PA-RL: 2000).",
    )
    chunk: int = Field(
        1, ge=1, description="Consecutive actions that the policy gives at once and the robot executes one per control step."
    )
    average_rate: float = Field(
        1.0, gt=0, le=1, description="Rate of the moving average of the parameters that acts; 1 acts with the newest ones."
    )
    # gaussian
    log_std_min: float = -5.0
    log_std_max: float = 0.7
    cloning: Literal["squared_error", "log_likelihood"] = "squared_error"
    # diffusion and flow
    sampling_steps: int = Field(5, ge=1, description="Denoising steps (diffusion) or Euler steps (flow).")
    sampling_noise: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Standard deviation of the noise that samples are made of; below 1 they stay nearer the middle of what was "
        "learnt (low-temperature sampling, Ajay et al. 2023).",
    )
    width: int = Field(256, ge=8, description="Width of the residual blocks, or of the transformer.")
    blocks: int = Field(3, ge=1, description="Residual blocks, or transformer layers.")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of hidden units left out while imitating, against learning demonstrations by heart.",
    )
    # autoregressive
    bins: int = Field(128, ge=2, description="Action tokens per dimension.")
    heads: int = Field(8, ge=1)
    # external
    server: str = Field("http://127.0.0.1:8600", description="Address of the policy server (docs/external_policy.md).")
    server_timeout_s: float = Field(120.0, gt=0, description="A request to the policy server fails after this time.")
    distil_every_updates: int = Field(100, ge=1, description="Updates of practice between two distillation steps of the server.")
    distil_batch: int = Field(16, ge=1, description="Rows of one distillation step, all directions together.")


class ImprovementConfig(Model):
    kind: Literal["gradient", "pa_rl", "awr", "bc"] = "gradient"
    every: int = Field(
        1, ge=1, description="Critic updates per step of policy and temperature; cloning before practice is not thinned."
    )
    # gradient
    initial_temperature: float = Field(0.01, gt=0)
    learn_temperature: bool = True
    target_entropy_per_dim: float = -0.5
    q_reduction: Literal["mean", "min"] = Field(
        "mean",
        description="gradient, pa_rl: over the critics, of the value that improves the policy; PA-RL takes the mean.",
    )
    bc_weight: float = Field(0.0, ge=0, description="gradient, pa_rl: weight of cloning demonstration rows.")
    bc_schedule: Literal["constant", "annealed", "balanced"] = Field(
        "constant",
        description="annealed: (1 − λ)·L_RL + λ·L_BC, λ from bc_weight to bc_end_weight (MEDAL++); balanced: scaled to "
        "the size of the other one (RoboFuME).",
    )
    bc_end_weight: float = Field(0.1, ge=0)
    bc_anneal_start: int = Field(10_000, ge=0, description="Updates before λ begins to fall.")
    bc_anneal_end: int = Field(50_000, ge=1, description="Updates after which λ stays.")
    # pa_rl
    candidates: int = Field(32, ge=1, description="Actions sampled from the policy.")
    keep: int = Field(10, ge=1, description="Best of them that are improved.")
    ascent_steps: int = Field(10, ge=0)
    ascent_step_size: float = Field(3e-4, gt=0)
    distil: Literal["softmax", "argmax"] = "softmax"
    # awr
    inverse_temperature: float = Field(3.0, ge=0, description="β: weights are exp(β · advantage).")
    max_weight: float = Field(100.0, gt=0)


class DiscriminatorConfig(Model):
    """A reward learned while practising: a classifier of demonstrations against what the policy of one direction visits."""

    form: Literal["minus_log_one_minus_d", "log_d"] = Field(
        "minus_log_one_minus_d", description="-log(1 - D), never negative (MEDAL), or log D, never positive (VICE, MEDAL++)."
    )
    scale: float = Field(1.0, gt=0, description="Multiplies the reward; MEDAL has 10, for the task's reward too.")
    hidden: tuple[int, ...] = Field((128,), description="Widths after the observation, or after the trunk of image features.")
    trunk_features: int = Field(
        50, gt=0, description="Image features of the discriminator's own encoder; unused without cameras."
    )
    spectral_norm: bool = Field(False, description="Keep the largest singular value of every layer at 1 (MEDAL++).")
    learning_rate: float = Field(3e-4, gt=0)
    rows: int = Field(400, ge=1, description="Positives in a batch, and as many negatives.")
    period_updates: int = Field(10, ge=1, description="Updates of the agent between two of the discriminator.")
    first_frames: int | None = Field(None, ge=1, description="Only the first frames of each demonstration are positives.")
    last_frames: int | None = Field(None, ge=1, description="Only the last frames of each demonstration are positives (VICE).")


class RewardConfig(Model):
    kind: Literal["environment", "classifier", "intervention", "vice", "q_weighted"] = Field(
        "classifier",
        description="vice: the forward policy is drawn to the last frames of demonstrations; q_weighted: to states of the "
        "demonstrations that are worth more than where it is (QWALE).",
    )
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="Of vice and q_weighted.")
    success: float = 1.0
    step: float = 0.0
    success_is_terminal: bool = True
    consecutive_frames: int = Field(2, ge=1, description="k frames above the threshold make a success (hysteresis), in a row.")
    vote_window: int | None = Field(
        None, ge=1, description="k frames among the last so many, no longer in a row; None: k. For judges that miss frames."
    )
    max_false_positive_rate: float = Field(0.01, gt=0, lt=1)
    classifier: ClassifierConfig = Field(ClassifierConfig(), description="Of kind classifier.")


class ResetConfig(Model):
    kind: Literal["human", "backward_policy", "instruction", "medal", "vaprl", "none"] = Field(
        "backward_policy",
        description="backward_policy: a second policy with the backward task's own reward (FBRL). instruction: one policy is "
        "told in words which of the two tasks to do (RoboFuME). medal: a second policy that is drawn to states of the forward "
        "demonstrations. vaprl: the same policy goes to a demonstrated state that it can start from. none: nobody undoes the "
        "task.",
    )
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="Of medal.")
    value_threshold: float = Field(
        0.2,
        gt=0,
        description="vaprl: a demonstrated state is one to begin from when its value is this share of reward.success.",
    )
    relabelled_goals: int = Field(4, ge=0, description="vaprl: other goals under which every attempt is learned from again.")
    wander_steps: int = Field(
        0,
        ge=0,
        description="Between attempts the arm moves at random for up to so many steps, so that starts vary; not recorded.",
    )


class HelpConfig(Model):
    kind: Literal["never", "timeout", "scheduled", "paint", "classifier_doubt"] = Field(
        "timeout",
        description="timeout: many failures in a row. scheduled: after every horizon_steps. paint: a classifier of irreversible "
        "states, learned from labels that people give. classifier_doubt: the success classifier is unsure again and again.",
    )
    meanwhile: Literal["hold", "practise"] = Field(
        "hold",
        description="What the robot does until answered. practise: it goes on, and the request is withdrawn at the next success "
        "of that direction. A lost object, two goals met at once and a person's reset always hold.",
    )
    escalate_after_s: float = Field(
        300.0, gt=0, description="A request that nobody answers is repeated after so long, a level higher each time, up to 3."
    )
    cooldown_s: float = Field(
        0.0, ge=0, description="No second request for the same kind of reason within this time, unless the robot cannot go on."
    )
    ask_when_held_s: float = Field(
        30.0,
        gt=0,
        description="A fault that holds the robot for so long without a break (a force that stays, a dead camera) is told to a "
        "person. The request is withdrawn when the fault is over. Not with kind never.",
    )
    timeouts_before_help: int = Field(
        8, ge=1, description="Consecutive timed-out attempts of one direction after which a person is asked."
    )
    lost_is_told: bool = Field(
        True,
        description="timeout: help is asked for at once where a simulation tells that the object is lost. false: it knows no "
        "more than a real robot does.",
    )
    # paint
    seed_steps: int = Field(1000, ge=0, description="Control steps before the first alarm; at their end a person looks once.")
    steps_before_asking: int = Field(300, ge=0, description="Control steps from the alarm to the question (N).")
    alarm_states: int = Field(
        1,
        ge=1,
        description="States in a row that look irreversible for an alarm. PAINT takes 1; more give fewer false alarms.",
    )
    horizon_steps: int = Field(
        200_000, ge=1, description="paint: control steps without help after which a person is asked to look. scheduled: to reset."
    )
    classifier_updates: int = Field(
        5000, ge=1, description="Updates of the classifier, from scratch, after every labelled intervention; PAINT makes 50,000."
    )
    # classifier_doubt
    doubt_band: tuple[float, float] = Field(
        (0.2, 0.8), description="Probabilities of success at the end of an attempt that count as unsure."
    )
    doubt_disagreement: float = Field(
        0.25, gt=0, description="So does this standard deviation of the members' probabilities, 0.5 at most."
    )
    doubtful_attempts: int = Field(3, ge=1, description="Unsure attempts in a row after which labels are asked for.")
    scripted_answer_delay_s: float | None = Field(
        None,
        ge=0,
        description="In headless simulation a scripted helper resets the scene after this delay; every answer is counted.",
    )


class DataConfig(Model):
    batch_size: int = Field(64, ge=2)
    demonstration_share: Annotated[float, Field(ge=0, le=1)] | Literal["proportional"] = Field(
        0.5, description="Of each batch; proportional: their share of all transitions, so ever fewer while practising."
    )
    corrections_are_demonstrations: bool = Field(
        False,
        description="What a person did after taking over is drawn among the demonstrations too, and cloned like them (HIL-SERL).",
    )
    successes_are_demonstrations: bool = Field(
        False,
        description="Attempts of practice that ended in success are drawn among the demonstrations too, and cloned like them "
        "where improvement.bc_weight is above 0 (self-imitation, Oh et al. 2018). What fools the judge is cloned as well.",
    )
    distillation_share: Literal["batch", "proportional"] = Field(
        "batch", description="proportional: demonstrations count in distillation (pa_rl) as much as among all transitions."
    )
    utd: float = Field(
        4.0, gt=0, description="Gradient updates per environment step, an upper bound that the learner never exceeds."
    )
    min_online_steps: int = Field(100, ge=0, description="Online steps before updates start.")
    replay_capacity_steps: int = Field(100_000, ge=100)
    random_shift_px: int = Field(4, ge=0)
    pretrain_bc_steps: int = Field(
        1000,
        ge=0,
        description="Updates on the demonstrations before practice: policies by behaviour cloning, critics by their own loss.",
    )
    offline_steps: int = Field(
        0, ge=0, description="Updates of the whole recipe on prior data, after cloning and before practice (offline → online)."
    )
    bootstrap_through_timeouts: bool = Field(
        True,
        description="false: for the critic the end of an attempt ends the task too (MEDAL), so failing is worth nothing.",
    )
    train_only_acting: bool = Field(
        False, description="Only the direction that practised last is trained (MEDAL); the encoder with it."
    )
    reset_optimisers: bool = Field(True, description="Fresh optimiser state when practice begins.")
    success_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the rows that are drawn among transitions with the success reward (OOO)."
    )
    rnd_coefficient: float = Field(
        0.0, ge=0, description="Weight of the random-network-distillation bonus while practising (OOO)."
    )
    intervention_weights: bool = Field(False, description="Weigh rows in supervised losses by who acted and when (Sirius).")
    pre_intervention_steps: int = Field(
        15, ge=0, description="Steps of the policy before an intervention that count as its cause (Sirius)."
    )


class EncoderConfig(Model):
    kind: Literal["patch", "conv"] = "patch"
    features: int = Field(128, gt=0, description="Output features of all cameras together.")
    patch_px: int = Field(8, gt=0)
    online_learning_rate: float | None = Field(
        None, ge=0, description="While practising; 0 leaves the encoder as it was when practice began, None trains it as before."
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the products in image encoders; parameters and features stay float32. bfloat16 is for GPUs."
    )
    instruction: str = Field(
        "none",
        pattern=r"^(none|hashed|open_clip:[^:]+:.+)$",
        description="How the instruction of a row becomes an input of policy and critic: hashed (words, no weights), or the text "
        "tower open_clip:<model>:<weights>.",
    )
    instruction_dim: int = Field(128, ge=8, description="Size of the text's embedding; for open_clip that of the model.")
