"""The component graph as modules: one for each component, each called once, with what its sources gave."""

from collections.abc import Mapping

from torch import Tensor, nn

from metta_hub.architecture import CORE, OBSERVATION, Plan
from metta_hub.errors import ArchitectureError
from metta_hub.policies.metta_agent import attention, making
from metta_hub.policies.policy import State


class Components(nn.ModuleDict):
    """The components of an agent.

    Attributes:
        plan: what there is, and in which order it is called.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        if taken := [name for name in plan.graph.components if hasattr(self, name)]:
            raise ArchitectureError("", f"'{taken[0]}' cannot name a component")
        for name, component in plan.graph.components.items():
            self[name] = making.module(component.kind, plan.inputs(name), plan.environment)

    def forward(self, observation: Tensor, state: State) -> tuple[Mapping[str, Tensor], State]:
        """What each component gives for rows of observations, and the next state of the core.

        Args:
            observation: [B*T, …], row = b*T + t.
            state: each [L, B, H].
        """
        values: dict[str, Tensor] = {}
        mask: Tensor | None = None
        for name in self.plan.graph.order:
            module = self[name]
            given = [values[source.name] for source in self.plan.graph.components[name].sources]
            if name == OBSERVATION:
                values[name], mask = module(observation)
            elif name == CORE:
                values[name], state = module(*given, state)
            elif isinstance(module, attention.LatentAttention | attention.SelfAttention):
                values[name] = module(*given, mask)
            else:
                values[name] = module(*given)
        return values, state
