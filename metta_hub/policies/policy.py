"""The policy: what every built-in architecture is, whatever it computes."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from metta_hub.actions import Actions
from metta_hub.errors import BadTypeError, UsageError
from metta_hub.policies.spaces import Box

#: Hidden and cell state of a core of L layers and width H for B sequences: each [L, B, H].
State = tuple[Tensor, Tensor]

#: The byte that marks a token as padding, and how many bytes a token has: place, feature, value.
_PADDING, _TOKEN_WIDTH = 255, 3


#: Whole numbers of which torch can do little else than convert them.
_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})


class PolicyOutput(NamedTuple):
    """What a policy computes of observations.

    Attributes:
        logits: [B, A], A actions in the order of `Policy.actions`; with a time axis [B*T, A], row = b*T + t.
        value: [B, 1], or [B*T, 1].
        state: after the last step, each [L, B, H].
    """

    logits: Tensor
    value: Tensor
    state: State


class Policy(nn.Module, ABC):
    """A module that acts. Subclasses give `compute`, and a `forward` of their own if their framework has one.

    Attributes:
        observation_space: of one observation.
        actions: names and parameters of the actions, in the order of the logits.
        num_layers: of the recurrent core, L.
        hidden_size: of the recurrent core, H.
        view: width and height of what an agent sees, in cells.
        feature_ids: the features that tokens may speak of.
    """

    def __init__(
        self,
        *,
        observation_space: Box,
        actions: Actions,
        num_layers: int,
        hidden_size: int,
        view: tuple[int, int] = (11, 11),
        feature_ids: tuple[int, ...] = tuple(range(16)),
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.actions = actions
        self.num_layers = num_layers
        self.hidden_size = hidden_size
        self.view = view
        self.feature_ids = feature_ids

    @abstractmethod
    def compute(self, observation: Tensor, state: State) -> PolicyOutput:
        """Compute logits, values and the next state; `evaluate` is this with its arguments made fit.

        Args:
            observation: [B, …] or [B, T, …] of the observation space's shape and dtype, on the policy's device.
            state: each [L, B, H], on the policy's device and of its dtype.
        """

    @property
    def action_names(self) -> list[str]:
        """Names of the action types; empty before a policy knows its environment."""
        return list(self.actions.names)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return next(one.dtype for one in self.parameters() if one.is_floating_point())

    def evaluate(self, observation: Any, state: State | None = None) -> PolicyOutput:  # noqa: ANN401  (tensor or array)
        """Compute logits, values and the next state; deterministic in eval mode.

        Args:
            observation: tensor or array of the observation space's shape behind a batch axis, or batch and time.
            state: as an earlier call gave it; None starts with zeros.

        Raises:
            UsageError: shape or dtype is not that of an observation or a state.
        """
        observed = self._observed(observation)
        if observed.ndim == len(self.observation_space.shape):
            raise UsageError(
                f"evaluate needs a batch axis before {list(observed.shape)}.", hint="observation[None], or use predict"
            )
        return self.compute(observed, self._state(state, len(observed)))

    @torch.no_grad()
    def predict(
        self,
        observation: Any,  # noqa: ANN401  (tensor or array)
        state: State | None = None,
        episode_start: Any = None,  # noqa: ANN401  (tensor, array or list)
        deterministic: bool = False,
    ) -> tuple[Tensor, State]:
        """Choose actions, as stable-baselines3's policies do.

        Args:
            observation: one observation, or a batch of them.
            state: as an earlier call gave it; None starts with zeros.
            episode_start: [B], true where an episode begins, so that the state of before counts as zeros.
            deterministic: the likeliest action instead of one drawn from the probabilities.

        Returns:
            The actions, int64: [B, 2] of type and parameter (MultiDiscrete) or [B] (Discrete), without B for one
            observation; and the next state, which always has its batch axis.

        Raises:
            UsageError: shape or dtype is not that of an observation or a state, or no actions are known.
        """
        if not len(self.actions):
            raise UsageError("The policy knows no actions yet.", hint="call policy.initialize_to_environment(…) first")
        observed = self._observed(observation)
        single = observed.ndim == len(self.observation_space.shape)
        batch = observed[None] if single else observed
        logits, _, following = self.evaluate(batch, self._begun(state, episode_start, len(batch)))
        chosen = logits.argmax(-1) if deterministic else torch.multinomial(logits.float().softmax(-1), 1).squeeze(-1)
        if self.actions.max_params is not None:
            chosen = torch.tensor(self.actions.pairs, device=chosen.device)[chosen]
        return (chosen[0] if single else chosen), following

    @torch.no_grad()
    def probabilities(self, observation: Any, state: State | None = None) -> Tensor:  # noqa: ANN401
        """How likely each action is, [B, A], float32, in the order of `actions`; arguments as in `evaluate`."""
        return self.evaluate(observation, state).logits.float().softmax(-1)

    def name_of(self, action: Any) -> str:  # noqa: ANN401  (tensor, array, list or number)
        """The action in words: `move_1` for parameter 1 of `move`, or the name alone where there are no parameters.

        Args:
            action: one action as `predict` gives it: [2] or a number.

        Raises:
            UsageError: there is no such action.
        """
        given = action
        try:
            given = torch.as_tensor(action).tolist()
            return self.actions.label(given)
        except (ValueError, TypeError, RuntimeError):
            raise UsageError(
                f"The policy has no action {given}.", hint=f"its actions are {', '.join(self.actions.labels[:8])}"
            ) from None

    def initial_state(self, batch: int = 1) -> State:
        """Zeros, each [L, B, H], as at the start of an episode."""
        zeros = torch.zeros(self.num_layers, batch, self.hidden_size, device=self.device, dtype=self.dtype)
        return zeros, zeros.clone()

    def example_observation(self, number: int = 0) -> Tensor:
        """One of the observations, always the same, such as an environment could give: for a first try, and for timing.

        Args:
            number: which of them.
        """
        shape = self.observation_space.shape
        chance = torch.Generator().manual_seed(number)
        if len(shape) != 2 or shape[1] != _TOKEN_WIDTH:  # noqa: PLR2004  (tokens have two axes)
            return torch.randint(0, 2, shape, generator=chance, dtype=self.observation_space.dtype)
        tokens = torch.full(shape, _PADDING, dtype=self.observation_space.dtype)
        count = max(1, shape[0] // 2)
        row, column = (torch.randint(0, min(side, 15), (count,), generator=chance) for side in self.view)
        feature = torch.tensor(self.feature_ids)[torch.randint(0, len(self.feature_ids), (count,), generator=chance)]
        tokens[:count] = torch.stack([row * 16 + column, feature, torch.randint(0, 10, (count,), generator=chance)], 1)
        return tokens

    # --- making arguments fit ---

    def _observed(self, observation: Any) -> Tensor:  # noqa: ANN401
        given = _tensor(observation, "observation")
        shape, wanted = self.observation_space.shape, self.observation_space.dtype
        axes = given.ndim - len(shape)
        if not 0 <= axes <= 2 or tuple(given.shape[axes:]) != shape or 0 in given.shape:  # noqa: PLR2004
            raise UsageError(
                f"An observation of shape {list(given.shape)} does not fit this policy.",
                hint=f"it takes {list(shape)}, behind a batch axis, or behind batch and time",
            )
        if given.dtype != wanted:
            given = self._converted(given, wanted)
        return given.to(self.device)

    def _converted(self, given: Tensor, wanted: torch.dtype) -> Tensor:
        space = self.observation_space
        if given.is_floating_point() or given.is_complex() or given.min() < space.low or given.max() > space.high:
            raise UsageError(
                f"Observations are {wanted}, and these are {given.dtype}.",
                hint=f"whole numbers from {space.low} to {space.high} are taken",
            )
        return given.to(wanted)

    def _begun(self, state: State | None, episode_start: Any, batch: int) -> State | None:  # noqa: ANN401
        """The state with zeros where an episode begins."""
        if state is None or episode_start is None:
            return state
        begins = _tensor(episode_start, "episode_start").bool().reshape(-1)
        if len(begins) != batch:
            raise UsageError(
                f"episode_start is of {len(begins)} observations, and there are {batch}.", hint="one for each"
            )
        hidden, cell = self._state(state, batch)
        kept = (~begins).to(hidden.device)[None, :, None]
        return hidden * kept, cell * kept

    def _state(self, state: State | None, batch: int) -> State:
        if state is None:
            return self.initial_state(batch)
        wanted = (self.num_layers, batch, self.hidden_size)
        if not isinstance(state, tuple | list) or len(state) != 2:  # noqa: PLR2004  (h and c)
            raise UsageError("A state is the pair (h, c).", hint="as evaluate and predict return it; None starts anew")
        hidden, cell = (_tensor(part, "state").to(device=self.device, dtype=self.dtype) for part in state)
        if hidden.shape != wanted or cell.shape != wanted:
            raise UsageError(
                f"A state of shapes {list(hidden.shape)} and {list(cell.shape)} does not fit {batch} observations.",
                hint=f"each is {list(wanted)}; state=None starts anew",
            )
        return hidden, cell


def _tensor(given: Any, what: str) -> Tensor:  # noqa: ANN401  (whatever users have)
    """A tensor of what is one, or can be made one.

    Raises:
        UsageError: it cannot.
    """
    try:
        found = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        words = str(error).splitlines()[0]
        raise UsageError(
            f"'{what}' is no tensor, array or list of numbers: {words}", hint="torch.as_tensor takes it"
        ) from None
    if found.is_sparse or found.is_meta:
        raise UsageError(f"'{what}' is a tensor without plain values.", hint="to_dense(), or one on a real device")
    return found.to(torch.int64) if found.dtype in _UNSIGNED else found


def ours(policy: object) -> Policy:
    """A module that was built, if it is a policy that can be asked; a registered builder may give any module.

    Raises:
        BadTypeError: it is another module.
    """
    if isinstance(policy, Policy):
        return policy
    sentence = f"A '{type(policy).__name__}' has no evaluate(observation, state), so nobody knows how to ask it."
    raise BadTypeError("policy", sentence, hint="derive it from metta_hub.policies.policy.Policy")
