"""mettagrid's LSTM policy: a flat encoder, an LSTM, a head for actions and one for the value.

Source of the facts: mettagrid 0.26.22, `mettagrid.policy.lstm` (class `LSTMPolicy`, short name `lstm`), whose width is
128 with one layer. Its environment gives tokens [M, 3] of bytes; actions are Discrete.
"""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from metta_hub.actions import Actions
from metta_hub.errors import ArchitectureError
from metta_hub.metadata import model_info
from metta_hub.policies.description import Description
from metta_hub.policies.policy import Policy, PolicyOutput, State
from metta_hub.policies.spaces import Box

TYPE, MODULE = "LSTMPolicy", "mettagrid.policy.lstm"
#: The most that sizes from a file may be: an axis, the layers, all parameters.
MAX_AXIS, MAX_LAYERS, MAX_PARAMETERS = 1 << 16, 64, 500_000_000

_WIDTH, _TOKEN_WIDTH, _VIEW, _FEATURES = 128, 3, 11, 16
_GATES, _BYTE = 4, 255
_ENCODER, _ACTIONS, _CORE = "_net.0.weight", "_action_head.weight", "_rnn.weight_ih_l"

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


class LSTMPolicy(Policy):
    """mettagrid's LSTM policy, with its names of weights and its numbers.

    Observations are divided by 255 when the largest value of the whole call is above 1, as mettagrid's class does it.

    Args:
        observation_space: of one observation.
        actions: the actions, Discrete.
        named: whether the names of the actions are known; else they are numbered.
        hidden_size: width of the encoder and the core.
        num_layers: of the core.
        view: width and height of what an agent sees, in cells.
        feature_ids: the features that tokens may speak of.
    """

    def __init__(
        self,
        observation_space: Box,
        actions: Actions,
        *,
        named: bool = True,
        hidden_size: int = _WIDTH,
        num_layers: int = 1,
        view: tuple[int, int] = (_VIEW, _VIEW),
        feature_ids: tuple[int, ...] = tuple(range(_FEATURES)),
    ) -> None:
        super().__init__(
            observation_space=observation_space,
            actions=actions,
            num_layers=num_layers,
            hidden_size=hidden_size,
            view=view,
            feature_ids=feature_ids,
        )
        self._named = named
        inputs = math.prod(observation_space.shape)
        self._net = nn.Sequential(nn.Linear(inputs, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size))
        self._rnn = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True)
        self._action_head = nn.Linear(hidden_size, len(actions))
        self._value_head = nn.Linear(hidden_size, 1)

    @property
    def action_names(self) -> list[str]:
        """Names of the actions; empty when nobody knows them."""
        return super().action_names if self._named else []

    @property
    def model_info(self) -> dict[str, Any]:
        """What metadata say of this policy."""
        shape = list(self.observation_space.shape)
        return {
            "type": TYPE,
            "module_name": MODULE,
            "hidden_size": self.hidden_size,
            "num_lstm_layers": self.num_layers,
            "use_lstm": True,
            "agent_attributes": {
                "observation_space": {"type": "Box", "shape": shape, "dtype": "uint8"},
                "action_space": {"type": "Discrete", "n": len(self.actions)},
            },
        }

    def compute(self, observation: Tensor, state: State) -> PolicyOutput:
        """Compute logits, values and the next state of observations [B, …] or [B, T, …]."""
        return self._computed(observation, state)

    def forward(
        self, observations: Tensor, state: State | MutableMapping[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute as mettagrid's own call does.

        Args:
            observations: [B, …] or [B, T, …], bytes, or numbers that are scaled already.
            state: None, h and c of [L, B, H] each, or a dict with `lstm_h` and `lstm_c` of [B, L, H] each, or None:
                those are replaced by the ones after the last step. Without L, and for one sequence without B, too.

        Returns:
            Logits [B*T, A] and values [B*T, 1], row = b*T + t.
        """
        if not isinstance(state, MutableMapping):
            given = None if state is None else (_with_axes(state[0]), _with_axes(state[1]))
            return self._computed(observations, given)[:2]
        hidden, cell = state.get("lstm_h"), state.get("lstm_c")
        given = None if hidden is None or cell is None else (_layers_first(hidden), _layers_first(cell))
        logits, value, (hidden, cell) = self._computed(observations, given)
        state["lstm_h"], state["lstm_c"] = hidden.transpose(0, 1), cell.transpose(0, 1)
        return logits, value

    def _computed(self, observation: Tensor, state: State | None) -> PolicyOutput:
        batch = len(observation)
        rows = observation.reshape(batch, -1, math.prod(self.observation_space.shape)).float()
        rows = rows / torch.where(rows.max() > 1, 255.0, 1.0)
        hidden, following = self._rnn(self._net(rows.to(self.dtype)), state)
        hidden = hidden.flatten(0, 1)
        return PolicyOutput(self._action_head(hidden), self._value_head(hidden), following)


def _with_axes(state: Tensor) -> Tensor:
    """[H] or [B, H] as [1, B, H]."""
    return state if state.ndim == 3 else state.reshape(1, -1, state.shape[-1])  # noqa: PLR2004  (L, B, H)


def _layers_first(state: Tensor) -> Tensor:
    return state.transpose(0, 1) if state.ndim == 3 else _with_axes(state)  # noqa: PLR2004  (B, L, H)


# --- from metadata and shapes ---


def recognises(shapes: Shapes) -> bool:
    """Whether weights are this policy's: names and shapes show all of it, except for what its actions are called."""
    if not {_ENCODER, _ACTIONS, f"{_CORE}0"} <= shapes.keys():
        return False
    try:
        with torch.device("meta"):
            policy = build(Description({}, shapes))
    except ArchitectureError:
        return False
    return {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()} == dict(shapes)


def build(description: Description) -> LSTMPolicy:
    """Make the policy that a description is of; its weights are put in afterwards.

    Sizes are those of the metadata, and where those lack one, those of the weights.

    Raises:
        ArchitectureError: the metadata contradict themselves, or ask for more than `MAX_PARAMETERS`.
    """
    values = description.metadata
    sizes = _Sizes.of(values, description.shapes)
    names = _names(values)
    if names and len(names) != sizes.actions:
        raise ArchitectureError("", f"it names {len(names)} actions and has {sizes.actions}")
    view, features = _environment(values)
    return LSTMPolicy(
        Box(sizes.observation),
        Actions(names or tuple(f"action_{number}" for number in range(sizes.actions))),
        named=bool(names),
        hidden_size=sizes.hidden,
        num_layers=sizes.layers,
        view=view,
        feature_ids=features,
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The sizes of a policy, all of them within bounds."""

    observation: tuple[int, ...]
    actions: int
    hidden: int
    layers: int

    @classmethod
    def of(cls, values: Mapping[str, Any], shapes: Shapes) -> "_Sizes":
        info = model_info(values)
        attributes = _object(info.get("agent_attributes"))
        encoder, head = shapes.get(_ENCODER, ()), shapes.get(_ACTIONS, ())
        layers = sum(name.startswith(_CORE) for name in shapes)
        found = cls(
            observation=_observation(info, attributes, encoder[1] if len(encoder) > 1 else None),
            actions=_number(_object(attributes.get("action_space")).get("n"), "n of its action_space")
            or len(_names(values))
            or _number(head[0] if head else None, "its number of actions")
            or _missing("how many actions it has"),
            hidden=_number(info.get("hidden_size"), "its hidden_size")
            or _number(encoder[0] if encoder else None, "its width")
            or _WIDTH,
            layers=_number(info.get("num_lstm_layers"), "its num_lstm_layers", MAX_LAYERS)
            or _number(layers or None, "its number of layers", MAX_LAYERS)
            or 1,
        )
        found.check()
        return found

    def check(self) -> None:
        """Refuse more than fits into any memory, before a module is made."""
        inputs = math.prod(self.observation)
        core = self.layers * 2 * _GATES * self.hidden * (self.hidden + 1)
        total = self.hidden * (inputs + self.hidden + 2) + core + (self.hidden + 1) * (self.actions + 1)
        if total > MAX_PARAMETERS:
            raise ArchitectureError("", f"it would have {total:,} parameters, and {MAX_PARAMETERS:,} are the most")


def _observation(info: Mapping[str, Any], attributes: Mapping[str, Any], inputs: int | None) -> tuple[int, ...]:
    """The shape of an observation: as the metadata have it, else tokens if the encoder's width allows it."""
    for place in (attributes, info):
        space = _object(place.get("observation_space"))
        if space.get("dtype", "uint8") != "uint8":
            raise ArchitectureError("", f"its observations are {str(space['dtype'])[:40]}, and it takes uint8")
        shape = space.get("shape")
        if isinstance(shape, list) and 0 < len(shape) <= 8 and all(type(size) is int for size in shape):  # noqa: PLR2004
            return tuple(_number(size, "an axis of its observations") or 0 for size in shape)
    if not inputs:
        _missing("what its observations are like")
    width = int(inputs or 0)
    return (width // _TOKEN_WIDTH, _TOKEN_WIDTH) if width % _TOKEN_WIDTH == 0 else (width,)


def _environment(values: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """What a bundle tells of the environment: how far an agent sees, and the features of its tokens."""
    told = _object(_object(values.get("metta_bundle")).get("policy_env_interface"))
    match told.get("egocentric_shape"):
        case [int(width), int(height)] if 0 < width <= _BYTE and 0 < height <= _BYTE:
            view = (width, height)
        case _:
            view = (_VIEW, _VIEW)
    listed = told.get("obs_features")
    ids = [_object(one).get("id") for one in (listed if isinstance(listed, list) else [])]
    return view, tuple(one for one in ids if type(one) is int and 0 <= one <= _BYTE) or tuple(range(_FEATURES))


def _names(values: Mapping[str, Any]) -> tuple[str, ...]:
    names = values.get("action_names")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _number(value: object, what: str, most: int = MAX_AXIS) -> int | None:
    """A size; None when there is none.

    Raises:
        ArchitectureError: no policy has that size.
    """
    if type(value) is not int:
        return None
    if not 1 <= value <= most:
        raise ArchitectureError("", f"{what} is {value:,}, and 1 to {most:,} can be")
    return value


def _missing(what: str) -> int:
    raise ArchitectureError("", f"neither metadata nor weights say {what}")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
