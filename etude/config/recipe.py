"""A recipe: one choice per axis (`etude.config.axes`), and which choices fit together."""

from __future__ import annotations

from typing import get_args

from pydantic import Field, model_validator

from etude.config.axes import (
    CriticConfig,
    DataConfig,
    DiscriminatorConfig,
    EncoderConfig,
    HelpConfig,
    ImprovementConfig,
    PolicyConfig,
    ResetConfig,
    RewardConfig,
    WithDensity,
)
from etude.config.model import Model
from etude.specs import PHASES


class RecipeConfig(Model):
    name: str
    summary: str = Field("", description="What it does, in a sentence.")
    paper: str = Field("", description="Where it was published.")
    critic: CriticConfig = CriticConfig()
    policy: PolicyConfig = PolicyConfig()
    improvement: ImprovementConfig = ImprovementConfig()
    reward: RewardConfig = RewardConfig()
    reset: ResetConfig = ResetConfig()
    help: HelpConfig = HelpConfig()
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that are practised, in the order of `PHASES`."""
        return PHASES if self.reset.kind in ("backward_policy", "medal", "instruction") else PHASES[:1]

    @property
    def directions(self) -> tuple[str, ...]:
        """Names of the sets of parameters (policy, critic): one per practised phase, or one for all of them, told by its
        instruction which to do."""
        return ("both",) if self.reset.kind == "instruction" else self.phases

    @property
    def learned_rewards(self) -> dict[str, DiscriminatorConfig]:
        """Direction -> the discriminator that rewards it. There success neither ends an attempt nor the task."""
        learned = {"forward": self.reward.discriminator} if self.reward.kind in ("vice", "q_weighted") else {}
        return learned | ({"backward": self.reset.discriminator} if self.reset.kind == "medal" else {})

    @property
    def return_bounds(self) -> tuple[float, float]:
        """Lowest and highest discounted return that rewards of `reward.step` per step and `reward.success` once can make, and
        `critic.pessimistic_reward` for ever; with `reward.kind` intervention, what take-overs at -1 each can."""
        reward, horizon = self.reward, 1.0 / (1.0 - self.critic.discount)
        if reward.kind == "intervention":
            return -horizon, 0.0
        for_ever = reward.step * horizon
        success = reward.success if reward.success_is_terminal else reward.success * horizon
        stuck = for_ever if self.critic.pessimistic_reward is None else self.critic.pessimistic_reward * horizon
        return min(for_ever, reward.step, success, stuck), max(for_ever, success)

    @property
    def candidates_per_frame(self) -> int:
        """K, how many actions a policy server gives for each frame; 0 for policies that live in the learner."""
        return self.improvement.candidates if self.policy.kind == "external" else 0

    @model_validator(mode="after")
    def _parts_fit(self) -> "RecipeConfig":
        """Combinations that cannot work, refused with the reason."""
        critic, policy, improvement = self.critic, self.policy.kind, self.improvement
        if critic.subset_min > critic.ensemble and not critic.subset_with_replacement:
            raise ValueError(f"critic.subset_min is {critic.subset_min} but critic.ensemble has only {critic.ensemble} members")
        if critic.kind == "none" and improvement.kind != "bc":
            raise ValueError(
                f"improvement.kind {improvement.kind!r} asks a critic, and critic.kind is 'none': use bc, or a critic"
            )
        dense = policy in get_args(WithDensity)
        if improvement.kind == "gradient" and not dense:
            raise ValueError(
                f"improvement.kind 'gradient' differentiates the action's log density, which a {policy} policy lacks: use "
                "pa_rl or awr"
            )
        if not dense and critic.kind in ("cql", "cal_ql") and critic.cql_importance_sampling:
            raise ValueError(
                f"critic.cql_importance_sampling needs log densities, which a {policy} policy does not have: set it to false"
            )
        if improvement.kind == "pa_rl" and critic.kind in ("cql", "cal_ql") and critic.cql_importance_sampling:
            raise ValueError("improved actions (pa_rl) have no log density: set critic.cql_importance_sampling to false")
        if critic.acting == "target" and improvement.kind != "pa_rl":
            raise ValueError("only actions that pa_rl improves are chosen with critics: leave critic.acting at newest")
        if critic.backup_entropy and (not dense or improvement.kind != "gradient"):
            raise ValueError(
                f"critic.backup_entropy needs a policy with log densities ({', '.join(get_args(WithDensity))}) improved by "
                "gradient: set it to false"
            )
        if self.policy.sampling_noise != 1.0 and policy not in ("diffusion", "flow"):
            raise ValueError(f"policy.sampling_noise is for diffusion and flow, and policy.kind is {policy!r}: leave it at 1")
        self._policy_fits()
        self._data_fits()
        self._external_policy_fits()
        self._learned_rewards_fit()
        self._curriculum_fits()
        self._help_fits()
        if self.reset.kind == "instruction" and self.encoder.instruction == "none":
            raise ValueError(
                "reset.kind 'instruction' has one policy for both phases, and encoder.instruction is 'none', so nothing tells it "
                "which: set encoder.instruction to hashed, or use reset.kind backward_policy"
            )
        if improvement.keep > improvement.candidates:
            raise ValueError(f"improvement.keep is {improvement.keep}, more than the {improvement.candidates} candidates")
        if critic.head == "hl_gauss":
            lowest, highest = self.return_bounds
            if not critic.value_min < critic.value_max or lowest < critic.value_min or highest > critic.value_max:
                raise ValueError(
                    f"critic.value_min {critic.value_min:g} and critic.value_max {critic.value_max:g} do not hold the returns "
                    f"that the rewards allow, {lowest:g} to {highest:g}: set them to these, or use critic.head scalar"
                )
        return self

    def _policy_fits(self) -> None:
        """Numbers of policy and cloning that contradict each other, refused with the reason."""
        policy, improvement = self.policy, self.improvement
        if policy.kind == "autoregressive" and policy.width % policy.heads:
            raise ValueError(f"policy.width {policy.width} does not divide into policy.heads {policy.heads}: make it a multiple")
        if policy.log_std_min > policy.log_std_max:
            raise ValueError(
                f"policy.log_std_min {policy.log_std_min:g} is above policy.log_std_max {policy.log_std_max:g}: lower it"
            )
        if improvement.bc_schedule == "annealed":
            if max(improvement.bc_weight, improvement.bc_end_weight) > 1:
                raise ValueError(
                    "improvement.bc_schedule 'annealed' weighs cloning λ and the critic 1 − λ, so improvement.bc_weight "
                    f"{improvement.bc_weight:g} and bc_end_weight {improvement.bc_end_weight:g} must be at most 1"
                )
            if improvement.bc_anneal_end < improvement.bc_anneal_start:
                raise ValueError(
                    f"improvement.bc_anneal_end {improvement.bc_anneal_end} is before bc_anneal_start "
                    f"{improvement.bc_anneal_start}: raise it"
                )

    def _data_fits(self) -> None:
        """What the data axis cannot give to the parts, refused with the reason."""
        data = self.data
        if self.policy.chunk > 1 and self.reward.kind == "intervention":
            raise ValueError(
                f"policy.chunk is {self.policy.chunk}, and reward.kind 'intervention' blames the action before a take-over: it "
                "cuts the chunk, so the blame would fall on actions that were never executed. Set policy.chunk to 1"
            )
        if data.rnd_coefficient > 0 and self.critic.head == "hl_gauss":
            raise ValueError(
                "data.rnd_coefficient adds a bonus without a bound to the reward, and critic.head 'hl_gauss' needs to know the "
                "range of returns: set critic.head to scalar"
            )
        if data.train_only_acting and self.reset.kind == "instruction":
            raise ValueError(
                "data.train_only_acting lets one of two policies rest, and reset.kind 'instruction' has one: set it to false"
            )
        if data.intervention_weights and data.demonstration_share == "proportional":
            raise ValueError(
                "data.intervention_weights are worked out from how often demonstrations are drawn: set "
                "data.demonstration_share to a number"
            )
        for name in ("corrections_are_demonstrations", "successes_are_demonstrations"):
            if getattr(data, name) and (data.intervention_weights or data.distillation_share == "proportional"):
                raise ValueError(
                    f"data.{name} changes how often rows of practice are drawn, and data.intervention_weights and "
                    "data.distillation_share 'proportional' do not reckon with that: set the first, or these, to false and batch"
                )
            if getattr(data, name) and data.demonstration_share == 0.0:
                raise ValueError(
                    f"data.{name} adds to the demonstrations of a batch, and data.demonstration_share 0 draws none: set the "
                    "first to false"
                )
        if data.successes_are_demonstrations and self.reset.kind == "vaprl":
            raise ValueError(
                "data.successes_are_demonstrations would clone the relabelled copies of reset.kind 'vaprl', which all succeed: "
                "set it to false"
            )
        if data.distillation_share == "proportional":
            if self.improvement.kind != "pa_rl":
                raise ValueError(
                    f"data.distillation_share is of distillation, which improvement.kind {self.improvement.kind!r} does not do: "
                    "set it to batch"
                )
            if data.demonstration_share in (0.0, 1.0):
                raise ValueError(
                    f"data.distillation_share 'proportional' weighs the rows of a batch, and with data.demonstration_share "
                    f"{data.demonstration_share:g} one kind is never drawn: set distillation_share to batch"
                )

    def _help_fits(self) -> None:
        """What a help rule cannot look at, refused with the reason."""
        reward = self.reward
        if reward.vote_window is not None and reward.vote_window < reward.consecutive_frames:
            raise ValueError(
                f"reward.vote_window {reward.vote_window} cannot hold reward.consecutive_frames {reward.consecutive_frames}: "
                "make it at least as large"
            )
        low, high = self.help.doubt_band
        if not 0 <= low < high <= 1:
            raise ValueError(f"help.doubt_band is {low:g} to {high:g}: give two probabilities, the smaller one first")
        if self.help.kind == "classifier_doubt" and self.reward.kind != "classifier":
            raise ValueError(
                f"help.kind 'classifier_doubt' looks at the success classifier, and reward.kind is {self.reward.kind!r}: use "
                "reward.kind classifier, or help.kind timeout"
            )
        if self.help.kind == "paint" and self.encoder.instruction != "none":
            raise ValueError(
                "help.kind 'paint' has one classifier of states for both directions, and encoder.instruction makes features "
                "depend on the direction: set encoder.instruction to none, or use help.kind timeout"
            )

    def _external_policy_fits(self) -> None:
        """What a policy server cannot do, refused with the reason."""
        critic, policy, improvement, data = self.critic, self.policy, self.improvement, self.data
        if policy.kind != "external":
            return
        if improvement.kind not in ("pa_rl", "bc"):
            raise ValueError(
                f"improvement.kind {improvement.kind!r} trains the policy's own loss, and an external policy is trained by its "
                "server: use pa_rl or bc"
            )
        if policy.chunk > 1:
            raise ValueError(f"policy.chunk is {policy.chunk}, and a policy server gives single actions: set it to 1")
        if data.batch_size < policy.distil_batch:
            raise ValueError(
                f"policy.distil_batch is {policy.distil_batch}, more than data.batch_size {data.batch_size}: "
                "distillation takes rows of a training batch"
            )
        asked = critic.cql_samples if critic.kind in ("cql", "cal_ql") and improvement.kind == "bc" else 1
        if asked > improvement.candidates:
            raise ValueError(
                f"critic.cql_samples is {asked}, more than the {improvement.candidates} candidates that the policy server is "
                "asked for: raise improvement.candidates"
            )
        if data.intervention_weights or data.distillation_share == "proportional":
            raise ValueError(
                "a policy server imitates all rows alike: set data.intervention_weights to false and data.distillation_share "
                "to batch"
            )

    def _learned_rewards_fit(self) -> None:
        """What a reward learned while practising excludes, refused with the reason."""
        critic, learned = self.critic, self.learned_rewards
        if learned and self.policy.chunk > 1:
            raise ValueError(
                f"policy.chunk is {self.policy.chunk}, and the {' and '.join(learned)} reward is of the single state that a step "
                "led to, so the states within a chunk would not count: set policy.chunk to 1"
            )
        if learned and self.reset.kind == "instruction":
            raise ValueError(
                "reset.kind 'instruction' has one policy for both phases, and the forward reward is learned for a policy of its "
                "own: use reset.kind backward_policy"
            )
        if learned and (critic.bound_targets or critic.head == "hl_gauss"):
            raise ValueError(
                f"the {' and '.join(learned)} reward is learned while practising, and critic.bound_targets and critic.head "
                "'hl_gauss' need to know the range of returns: set bound_targets to false and head to scalar"
            )
        if not self.data.bootstrap_through_timeouts and any(config.form == "log_d" for config in learned.values()):
            raise ValueError(
                "a reward of form log_d is negative everywhere, and with data.bootstrap_through_timeouts false the end of "
                "an attempt ends the losses, so that the policy would seek it: set bootstrap_through_timeouts to true, or "
                "use minus_log_one_minus_d"
            )
        if learned and critic.kind == "cal_ql":
            raise ValueError(
                f"the {' and '.join(learned)} reward is learned while practising, and critic.kind cal_ql calibrates by the "
                "returns of stored rewards: use td or cql"
            )
        if self.reward.kind == "intervention" and critic.kind == "cal_ql":
            raise ValueError(
                "reward.kind 'intervention' puts its -1 where a person takes over, after the returns that critic.kind cal_ql "
                "calibrates by were summed: use td or cql"
            )
        if self.reward.kind == "q_weighted" and critic.kind == "none":
            raise ValueError(
                "reward.kind q_weighted weighs positives by a critic of prior data, and critic.kind is 'none': choose one"
            )

    def _curriculum_fits(self) -> None:
        """What VaPRL's choice of states cannot ask, refused with the reason."""
        if self.reset.kind == "vaprl" and (self.policy.kind == "external" or self.encoder.instruction != "none"):
            raise ValueError(
                "reset.kind vaprl asks policy and critic about demonstrated states under another goal, which have no candidates "
                "and no instruction: use a policy that lives in the learner, with encoder.instruction none"
            )
