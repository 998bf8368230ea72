"""Metta's agent as a policy. Source: specification, sections 3 and 4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metta_hub.actions import Actions
from metta_hub.architecture import ACTION, EMBEDDING, OBSERVATION, VALUE, Plan
from metta_hub.errors import UsageError
from metta_hub.policies.metta_agent import environment
from metta_hub.policies.metta_agent.graph import Components
from metta_hub.policies.metta_agent.heads import ActionEmbedding
from metta_hub.policies.metta_agent.observations import TokenPadStrip, TokenValueNormalizer
from metta_hub.policies.policy import Policy, PolicyOutput, State
from metta_hub.policies.spaces import Box

#: Action [R, 2], its log-probability [R], entropy [R], value [R, 1], log-probabilities of all actions [R, A].
AgentOutput = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass
class PolicyState:
    """What an agent remembers between calls; its calls update it in place.

    Attributes:
        lstm_h: [L, B, H]; None at the start of an episode.
        lstm_c: the same.
    """

    lstm_h: Tensor | None = None
    lstm_c: Tensor | None = None


class MettaAgent(Policy):
    """An agent of Metta's: a graph of components.

    Attributes:
        components: the components, by name.
        core_num_layers: Metta's name for the layers of the core.
        original_feature_mapping: feature name → the id that the policy learned; empty before it met an environment.
        action_rows: full action name → row of the embeddings, of all that it ever had; None when nobody knows.
        described: the `model_info` that it was built from, with its architecture.
        assumed: pointers to what neither metadata nor weights said of its architecture, and was assumed.
    """

    action_index_tensor: Tensor

    def __init__(
        self,
        plan: Plan,
        *,
        actions: Actions,
        action_rows: Mapping[str, int] | None,
        feature_mapping: Mapping[str, int],
    ) -> None:
        core = plan.graph.core
        super().__init__(
            observation_space=Box(plan.environment.observation),
            actions=actions,
            num_layers=core.layers,
            hidden_size=core.hidden,
            view=plan.environment.view,
            feature_ids=tuple(sorted(plan.environment.normalizations)) or (0,),
        )
        self.components = Components(plan)
        self.core_num_layers = core.layers
        self.original_feature_mapping = dict(feature_mapping)
        self.action_rows = None if action_rows is None else dict(action_rows)
        self.described: Mapping[str, Any] = {}
        self.assumed: tuple[str, ...] = ()
        self._known_names = actions.names
        self.register_buffer("action_index_tensor", _table(actions), persistent=False)
        if actions.max_params and not actions.names:
            self._name_actions()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """As torch's; actions that had no names may be named by what was loaded."""
        keys = super().load_state_dict(state_dict, strict=strict, assign=assign)
        if self.actions.max_params and not self._known_names:
            self._name_actions()
        return keys

    @property
    def model_info(self) -> dict[str, Any]:
        """What metadata say of this policy as it is now: enough to build it."""
        attributes = dict(self.described.get("agent_attributes") or {})
        if self.actions.max_params:
            nvec = [len(self.actions.names), max(self.actions.max_params) + 1]
            attributes["action_space"] = {"type": "MultiDiscrete", "nvec": nvec}
        found = {**self.described, "type": "MettaAgent", "hidden_size": self.hidden_size}
        found |= {"core_num_layers": self.core_num_layers, "agent_attributes": attributes}
        if self.actions.max_params:
            found["action_max_params"] = self.action_max_params
        if self.action_rows:
            found["action_embedding_rows"] = dict(self.action_rows)
        return found

    def restore_original_feature_mapping(self, mapping: Mapping[str, int]) -> None:
        """Say which feature has which id for this policy, before it meets another environment; Metta's own name."""
        self.original_feature_mapping = dict(mapping)

    @property
    def action_max_params(self) -> list[int]:
        """The greatest parameter of each action type; empty where nobody knows."""
        return list(self.actions.max_params or ())

    def compute(self, observation: Tensor, state: State) -> PolicyOutput:
        """As `Policy.compute`; rows depend on each other where padding is cut off (`TokenPadStrip`)."""
        with_time = observation.ndim > len(self.observation_space.shape) + 1
        values, following = self.components(observation.flatten(0, 1) if with_time else observation, state)
        return PolicyOutput(values[ACTION], values[VALUE], following)

    def forward(self, x: Tensor, state: PolicyState | None = None, action: Tensor | None = None) -> AgentOutput:
        """Metta's own call.

        Args:
            x: observations [B, …] or [B, T, …]; R = B*T rows, row = b*T + t.
            state: updated in place; None for zeros that nobody keeps.
            action: [B, T, 2] of type and parameter, to be judged instead of drawing some.

        Returns:
            Action [R, 2] (the given one as it was given), its log-probability [R], entropy [R], value [R, 1],
            log-probabilities of all actions [R, A].

        Raises:
            UsageError: shapes do not fit, or the policy does not know its actions.
        """
        self._require_actions()
        state = PolicyState() if state is None else state
        remembered = None if state.lstm_h is None or state.lstm_c is None else (state.lstm_h, state.lstm_c)
        logits, value, (state.lstm_h, state.lstm_c) = self.evaluate(x, remembered)
        log_probs = logits.log_softmax(-1)
        probabilities = log_probs.exp()
        if action is None:
            index = torch.multinomial(probabilities.float(), 1)
            action = self.action_index_tensor[index.squeeze(-1)]
        else:
            index = self._index_of(action.reshape(-1, 2).to(log_probs.device).long())
        entropy = -(probabilities * log_probs).sum(-1)
        return action, log_probs.gather(-1, index).squeeze(-1), entropy, value, log_probs

    def initialize_to_environment(
        self,
        features: Mapping[str, Mapping[str, Any]],
        action_names: Sequence[str],
        action_max_params: Sequence[int],
        device: torch.device | str | None = None,
    ) -> None:
        """Bind the policy to an environment, as Metta does.

        The first environment that a policy meets says which feature has which id. In a later one, features are
        renumbered to those ids by their names; features that the policy never met count as unknown in eval mode, and
        are learned under their own id in training mode. As with Metta, an environment in which no id differs changes
        nothing, so that an earlier renumbering stays. Actions keep their embeddings by their full names
        (`move_1`); new ones get rows that nobody had.

        Args:
            features: name → `{"id": 0 to 255, "normalization": by what its values are divided}`.
            action_names: of the action types.
            action_max_params: the greatest parameter of each.
            device: where the policy goes; None to leave it.

        Raises:
            UsageError: something does not fit; the policy is as before.
        """
        found = environment.features(features)
        wanted = environment.actions(action_names, action_max_params)
        where = _placed(device)
        embedding = self._embedding
        rows = environment.action_rows(wanted, self._known_rows(wanted), embedding.rows)
        self._require_features()
        self.action_rows = rows
        embedding.activate([rows[label] for label in wanted.labels])
        self._set_actions(wanted)
        self._bind_features(found)
        if where is not None:
            self.to(where)

    # --- actions ---

    @property
    def _embedding(self) -> ActionEmbedding:
        found = self.components[EMBEDDING]
        assert isinstance(found, ActionEmbedding)  # noqa: S101  (the plan has seen to it)
        return found

    def _require_actions(self) -> None:
        if not len(self.actions):
            raise UsageError(
                "The policy does not know which of its logits is which action.",
                hint="call policy.initialize_to_environment(features, action_names, action_max_params)",
            )

    def _name_actions(self) -> None:
        """Without names in the metadata, the rows of the embeddings tell them; until then, types have numbers."""
        active = self._embedding.active_indices
        most = self.actions.max_params or ()
        told = None if active.is_meta else environment.names_of(active.tolist(), self.action_rows or {}, most)
        self._known_names = told or ()
        self.actions = Actions(told or tuple(f"action{kind}" for kind in range(len(most))), most)

    def _set_actions(self, actions: Actions) -> None:
        self.actions, self._known_names = actions, actions.names
        self.action_index_tensor = _table(actions).to(self.action_index_tensor.device)

    def _index_of(self, action: Tensor) -> Tensor:
        """Type and parameter [R, 2] → logit [R, 1].

        Raises:
            UsageError: one of them is no action of the policy's.
        """
        most = self.action_max_params
        starts = torch.tensor([sum(one + 1 for one in most[:kind]) for kind in range(len(most))], device=action.device)
        index = starts[action[:, 0].clamp(0, len(most) - 1)] + action[:, 1]
        index = index.clamp(0, len(self.actions) - 1)
        if not bool((self.action_index_tensor[index] == action).all()):
            raise UsageError("An action that was given is none of the policy's.", hint="see policy.actions.pairs")
        return index[:, None]

    def _known_rows(self, wanted: Actions) -> Mapping[str, int]:
        """Which row is which action's; of a policy whose metadata do not say, it shows when its actions stay the same.

        Raises:
            UsageError: it does not show.
        """
        if self.action_rows is not None:
            return self.action_rows
        active = self._embedding.active_indices.tolist()
        if not active:
            return {}
        if self._known_names in {(), wanted.names} and len(wanted) == len(active):
            return dict(zip(wanted.labels, active, strict=True))
        raise UsageError(
            f"The policy has {len(active)} actions, and its metadata do not say which row of its embeddings is whose,"
            " so other actions cannot be found in them.",
            hint="give the actions that it was trained with, or migrate the record that the pair was made of",
        )

    # --- features ---

    def _require_features(self) -> None:
        """A policy that has met an environment, and renumbers features, must know which it learned under which id.

        Raises:
            UsageError: nobody said.
        """
        renumbers = isinstance(self.components[OBSERVATION], TokenPadStrip)
        if renumbers and not self.original_feature_mapping and self._embedding.trained:
            raise UsageError(
                "Nobody said which feature has which id for this policy, so that others' cannot be renumbered.",
                hint="policy.restore_original_feature_mapping(metadata['original_feature_mapping']) says it",
            )

    def _bind_features(self, found: Mapping[str, environment.Feature]) -> None:
        if not self.original_feature_mapping:
            self.original_feature_mapping = {name: feature.id for name, feature in found.items()}
            return
        change = environment.renumbering(found, self.original_feature_mapping, adopt=self.training)
        front = self.components[OBSERVATION]
        if change is None or not isinstance(front, TokenPadStrip):
            return
        front.remap(change.table)
        for module in self.components.values():
            if isinstance(module, TokenValueNormalizer):
                module.renormalize(change.factors)


def _placed(device: torch.device | str | None) -> torch.device | None:
    """A device that there is.

    Raises:
        UsageError: there is none of that name.
    """
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        words = str(error).splitlines()[0]
        raise UsageError(f"There is no device '{device}' here: {words}", hint="'cpu', or 'cuda'") from None


def _table(actions: Actions) -> Tensor:
    """Logit → type and parameter, int32 [A, 2]; on a real device even where weights are not yet."""
    return torch.tensor(actions.pairs, dtype=torch.int32, device="cpu").reshape(-1, 2)
