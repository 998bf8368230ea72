"""Kinds of component that are ordinary layers, the core among them.

Source: specification of Metta's checkpoints, sections 3.1, 3.4 and 3.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Self

from metta_hub.architecture.nouns import Bare, Given, Output, Shape, flat, require
from metta_hub.architecture.options import MAX_LAYERS, PARAMETERS, Options
from metta_hub.strict_json import JSON

#: Classes of torch.nn that a configuration may name as `nn.X`: those without tensors and without arguments.
NONLINEARITIES = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
    *("LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign"),
    *("Tanh", "Tanhshrink"),
)
_WORDS = tuple(f"nn.{name}" for name in NONLINEARITIES)
_BOX_AXES = 3
_GATES = 4
_LAYERS_OF_A_BLOCK = 4


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer, and a nonlinearity behind it.

    Attributes:
        out: its width.
        bias: whether it has one.
        nonlinearity: name of a class of torch.nn; None for none.
    """

    out: int
    bias: bool
    nonlinearity: str | None
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = ("nonlinearity",)

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `nn_params.out_features`, `nn_params.bias` and `nonlinearity`."""
        parameters = options.parameters
        return cls(parameters.size("out_features"), parameters.flag("bias", default=True), _nonlinearity(options))

    def infer(self, given: Given) -> Output:
        """[…, in] → […, out]."""
        [source] = given.inputs
        require(len(source.shape) > 0, "needs an axis and gets none")
        at = _prefix(self.nonlinearity)
        tensors: dict[str, Shape] = {f"{at}.weight": (self.out, source.shape[-1])}
        if self.bias:
            tensors[f"{at}.bias"] = (self.out,)
        return Output((*source.shape[:-1], self.out), tensors)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """Width and bias show, and whether there is a nonlinearity, but not which."""
        at = _prefix(config.get("nonlinearity", "nn.ReLU"))
        parameters: dict[str, JSON] = {"out_features": tensors[f"{at}.weight"][0]}
        if f"{at}.bias" not in tensors:
            parameters["bias"] = False
        return {**config, PARAMETERS: parameters}


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution, and a nonlinearity behind it.

    Attributes:
        out: its channels.
        kernel: sides of its kernel.
        stride: along both sides.
        padding: on each side.
        bias: whether it has one.
        nonlinearity: name of a class of torch.nn; None for none.
    """

    out: int
    kernel: int
    stride: int
    padding: int
    bias: bool
    nonlinearity: str | None
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = (f"{PARAMETERS}/stride", f"{PARAMETERS}/padding", "nonlinearity")

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `nn_params` and `nonlinearity`."""
        parameters = options.parameters
        return cls(
            out=parameters.size("out_channels"),
            kernel=parameters.size("kernel_size"),
            stride=parameters.size("stride", 1),
            padding=parameters.size("padding", 0, least=0),
            bias=parameters.flag("bias", default=True),
            nonlinearity=_nonlinearity(options),
        )

    def infer(self, given: Given) -> Output:
        """[C, W, H] → [out, W', H']."""
        [source] = given.inputs
        require(len(source.shape) == _BOX_AXES, f"needs a box and gets {list(source.shape)}")
        channels, *sides = source.shape
        at = _prefix(self.nonlinearity)
        tensors: dict[str, Shape] = {f"{at}.weight": (self.out, channels, self.kernel, self.kernel)}
        if self.bias:
            tensors[f"{at}.bias"] = (self.out,)
        return Output((self.out, *(self._side(side) for side in sides)), tensors)

    def _side(self, side: int) -> int:
        room = side + 2 * self.padding - self.kernel
        words = f"does not fit a side of {side} (kernel {self.kernel}, stride {self.stride}, padding {self.padding})"
        require(room >= 0 and room % self.stride == 0, words)
        return room // self.stride + 1

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """Channels and kernel show; stride, padding and which nonlinearity don't."""
        at = _prefix(config.get("nonlinearity", "nn.ReLU"))
        out, _, kernel, _ = tensors[f"{at}.weight"]
        before = config.get(PARAMETERS)
        parameters = {**before, "out_channels": out, "kernel_size": kernel} if isinstance(before, dict) else {}
        return {**config, PARAMETERS: parameters}


@dataclass(frozen=True, slots=True)
class Rectifier(Bare):
    """A rectifier on its own."""

    sources: ClassVar[int | None] = 1

    def infer(self, given: Given) -> Output:
        """The same shape."""
        [source] = given.inputs
        return Output(source.shape, masked=source.masked)


@dataclass(frozen=True, slots=True)
class Flatten(Bare):
    """All axes in one, channels outermost."""

    sources: ClassVar[int | None] = 1

    def infer(self, given: Given) -> Output:
        """[C, W, H] → [C W H]."""
        [source] = given.inputs
        return Output((prod(source.shape),))


@dataclass(frozen=True, slots=True)
class Dropout(Rectifier):
    """Zeros at random in training mode, nothing in eval mode.

    Attributes:
        chance: of a zero.
    """

    chance: float = 0.5

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `nn_params.p`."""
        return cls(options.parameters.ratio("p", 0.5, least=0, most=1))


@dataclass(frozen=True, slots=True)
class Concatenate(Bare):
    """Sources put side by side, each perhaps a slice."""

    sources: ClassVar[int | None] = None
    unseen: ClassVar[tuple[str, ...]] = ("sources",)

    def infer(self, given: Given) -> Output:
        """Shapes that differ along one axis → their sum along it."""
        axes = {source.axis for source in given.inputs}
        require(len(axes) == 1, "joins its sources along different dims")
        axis = axes.pop()
        total, rest = 0, set()
        for source in given.inputs:
            require(axis < len(source.shape), f"has no dim {axis + 1} in {list(source.shape)}")
            size = source.shape[axis]
            start, stop = source.start or 0, size if source.stop is None else source.stop
            require(0 <= start < stop <= size, f"slices {start} to {stop} of {size}")
            total += stop - start
            rest.add((*source.shape[:axis], *source.shape[axis + 1 :]))
        require(len(rest) == 1, "joins sources whose other sizes differ")
        other = rest.pop()
        return Output((*other[:axis], total, *other[axis:]))


@dataclass(frozen=True, slots=True)
class Residual:
    """Residual blocks of four linear layers each.

    Attributes:
        blocks: how many.
    """

    blocks: int
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `depth`, four times the number of blocks."""
        depth = options.size("depth", most=_LAYERS_OF_A_BLOCK * MAX_LAYERS)
        if depth % _LAYERS_OF_A_BLOCK:
            raise options.refusal("depth", f"a multiple of {_LAYERS_OF_A_BLOCK}")
        return cls(depth // _LAYERS_OF_A_BLOCK)

    def infer(self, given: Given) -> Output:
        """[D] → [D]."""
        width = flat(given)
        tensors: dict[str, Shape] = {}
        for block in range(self.blocks):
            for place in range(0, 3 * _LAYERS_OF_A_BLOCK, 3):
                at = f"residual_layers.{block}.block."
                tensors |= {
                    f"{at}{place}.weight": (width, width),
                    f"{at}{place}.bias": (width,),
                    f"{at}{place + 1}.weight": (width,),
                    f"{at}{place + 1}.bias": (width,),
                    f"{at}{place + 2}.beta": (),
                }
        return Output((width,), tensors)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """The depth shows."""
        blocks = {name.split(".")[1] for name in tensors}
        return {**config, "depth": _LAYERS_OF_A_BLOCK * len(blocks)}


@dataclass(frozen=True, slots=True)
class Recurrent:
    """The LSTM that is the core.

    Attributes:
        hidden: width of its state, H.
        layers: L.
    """

    hidden: int
    layers: int
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `output_size` and `nn_params.num_layers`."""
        return cls(options.size("output_size"), options.parameters.size("num_layers", 1, most=MAX_LAYERS))

    def infer(self, given: Given) -> Output:
        """[in] → [H]."""
        inside = flat(given)
        tensors: dict[str, Shape] = {}
        for layer in range(self.layers):
            tensors |= {
                f"_net.weight_ih_l{layer}": (_GATES * self.hidden, self.hidden if layer else inside),
                f"_net.weight_hh_l{layer}": (_GATES * self.hidden, self.hidden),
                f"_net.bias_ih_l{layer}": (_GATES * self.hidden,),
                f"_net.bias_hh_l{layer}": (_GATES * self.hidden,),
            }
        return Output((self.hidden,), tensors, 2 * self.layers * _GATES * self.hidden)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """Both sizes show."""
        layers = sum(name.startswith("_net.weight_ih_l") for name in tensors)
        return {**config, "output_size": tensors["_net.weight_hh_l0"][1], PARAMETERS: {"num_layers": layers}}


def _nonlinearity(options: Options) -> str | None:
    word = options.choice("nonlinearity", "nn.ReLU", _WORDS)
    return None if word is None else word.removeprefix("nn.")


def _prefix(nonlinearity: object) -> str:
    """Where the tensors of a layer lie: in a sequence with its nonlinearity, or alone."""
    return "_net" if nonlinearity is None else "_net.0"
