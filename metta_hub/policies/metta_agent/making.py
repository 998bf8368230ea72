"""The module for each kind of component: from options and shapes, as the plan has them, to torch."""

from functools import singledispatch

from torch import nn

from metta_hub.architecture import Environment, Input, attending, heads, layers, observing
from metta_hub.architecture.nouns import Kind
from metta_hub.policies.metta_agent import attention, observations
from metta_hub.policies.metta_agent import heads as modules_of_heads
from metta_hub.policies.metta_agent import layers as modules_of_layers

Inputs = tuple[Input, ...]


@singledispatch
def module(kind: Kind, inputs: Inputs, environment: Environment) -> nn.Module:
    """Make the module for a component, with initial weights.

    Args:
        kind: its class and options.
        inputs: what it gets.
        environment: what the agent is for.

    Raises:
        NotImplementedError: the kind has none, which a test keeps from happening.
    """
    raise NotImplementedError(type(kind), inputs, environment)


@module.register
def _(_: observing.TokensToBox, __: Inputs, environment: Environment) -> nn.Module:
    return observations.TokensToBox(1 + max(environment.normalizations), *environment.view)


@module.register
def _(_: observing.BoxChannelsFirst, __: Inputs, ___: Environment) -> nn.Module:
    return observations.BoxChannelsFirst()


@module.register
def _(_: observing.ChannelNormalizer, inputs: Inputs, environment: Environment) -> nn.Module:
    return observations.ChannelNormalizer(inputs[0].shape[0], environment.normalizations)


@module.register
def _(_: observing.TokenPadStrip, __: Inputs, ___: Environment) -> nn.Module:
    return observations.TokenPadStrip()


@module.register
def _(_: observing.TokenValueNormalizer, __: Inputs, environment: Environment) -> nn.Module:
    return observations.TokenValueNormalizer(len(environment.normalizations))


@module.register
def _(kind: observing.TokenFourier, _: Inputs, __: Environment) -> nn.Module:
    return observations.TokenFourier(kind.width, kind.frequencies)


@module.register
def _(kind: attending.LatentAttention, inputs: Inputs, _: Environment) -> nn.Module:
    inside = inputs[0].shape[-1]
    return attention.LatentAttention(
        inside,
        kind.out,
        queries=kind.queries,
        widths=kind.widths(inside),
        heads=kind.heads,
        layers=kind.layers,
        use_mask=kind.use_mask,
        first_only=kind.first_only,
    )


@module.register
def _(kind: attending.SelfAttention, inputs: Inputs, _: Environment) -> nn.Module:
    return attention.SelfAttention(
        inputs[0].shape[-1],
        kind.out,
        heads=kind.heads,
        layers=kind.layers,
        use_mask=kind.use_mask,
        class_token=kind.class_token,
    )


@module.register
def _(kind: layers.Linear, inputs: Inputs, _: Environment) -> nn.Module:
    return modules_of_layers.Layer(nn.Linear(inputs[0].shape[-1], kind.out, bias=kind.bias), kind.nonlinearity)


@module.register
def _(kind: layers.Convolution, inputs: Inputs, _: Environment) -> nn.Module:
    layer = nn.Conv2d(
        inputs[0].shape[0], kind.out, kind.kernel, stride=kind.stride, padding=kind.padding, bias=kind.bias
    )
    return modules_of_layers.Layer(layer, kind.nonlinearity)


@module.register
def _(_: layers.Rectifier, __: Inputs, ___: Environment) -> nn.Module:
    return nn.ReLU()


@module.register
def _(_: layers.Flatten, __: Inputs, ___: Environment) -> nn.Module:
    return nn.Flatten()


@module.register
def _(kind: layers.Dropout, _: Inputs, __: Environment) -> nn.Module:
    return nn.Dropout(kind.chance)


@module.register
def _(_: layers.Concatenate, inputs: Inputs, __: Environment) -> nn.Module:
    return modules_of_layers.Concatenate([(source.start, source.stop) for source in inputs], inputs[0].axis)


@module.register
def _(kind: layers.Residual, inputs: Inputs, _: Environment) -> nn.Module:
    return modules_of_layers.Residual(inputs[0].shape[-1], kind.blocks)


@module.register
def _(kind: layers.Recurrent, inputs: Inputs, _: Environment) -> nn.Module:
    return modules_of_layers.Core(inputs[0].shape[-1], kind.hidden, kind.layers)


@module.register
def _(kind: heads.ActionEmbedding, _: Inputs, environment: Environment) -> nn.Module:
    return modules_of_heads.ActionEmbedding(kind.rows, kind.width, environment.actions)


@module.register
def _(_: heads.SingleHead, inputs: Inputs, __: Environment) -> nn.Module:
    return modules_of_heads.SingleHead(inputs[0].shape[0], inputs[1].shape[1])


@module.register
def _(kind: heads.BilinearHead, inputs: Inputs, _: Environment) -> nn.Module:
    return modules_of_heads.BilinearHead(inputs[0].shape[0], inputs[1].shape[1], kind.queries, kind.between)
