"""A policy that a store knows: where it is, what is known of it, and the module itself when somebody asks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metta_hub.checkpoint import Origin
from metta_hub.errors import BadTypeError, BadValueError
from metta_hub.metadata import Metadata
from metta_hub.store.policy_metadata import PolicyMetadata

if TYPE_CHECKING:
    from metta_hub.policies import Module
    from metta_hub.store.policy_store import PolicyStore

FILE = "file://"
#: The classes that `policy_as_metta_agent` gives.
AGENTS = frozenset({"MettaAgent", "DistributedMettaAgent", "PytorchAgent"})


class PolicyRecord:
    """A policy, its place and its metadata. The module is loaded when `policy` is first asked for.

    Args:
        policy_store: loads the policy; None for a record that is only made.
        run_name: what the policy is called.
        uri: where it is: `file://PATH`, `hf://org/name@commit:NAME` or `pytorch://PATH`.
        metadata: what is known of it.

    Attributes:
        run_name: as given.
        uri: as given; after `store.save` the file that was written.
        cached_policy: the module, if it is loaded.
        origin: the files of a local one, and how they were when the metadata were read; None when nobody knows.
        policy_store: as given.
        source: the metadata as they were read; None for a record that was made.
    """

    def __init__(
        self,
        policy_store: "PolicyStore | None",
        run_name: str,
        uri: str | None,
        metadata: PolicyMetadata | dict[str, Any],
    ) -> None:
        self.policy_store = policy_store
        self.run_name = run_name
        self.uri = uri
        self.metadata = metadata
        self.cached_policy: Module | None = None
        self.origin: Origin | None = None
        self.source: Metadata | None = None

    @property
    def metadata(self) -> PolicyMetadata:
        """What is known of the policy.

        Raises:
            BadTypeError: it is set to something that is no mapping (a TypeError).
        """
        return self._metadata

    @metadata.setter
    def metadata(self, value: PolicyMetadata | dict[str, Any]) -> None:
        if isinstance(value, PolicyMetadata):
            self._metadata = value
        elif isinstance(value, Mapping):
            self._metadata = PolicyMetadata(**value)
        else:
            sentence = f"Metadata are a PolicyMetadata or a dict, and not a {type(value).__name__}."
            raise BadTypeError("metadata", sentence, hint="PolicyMetadata(epoch=140, agent_step=2293760)")

    @property
    def file_path(self) -> str:
        """The file of a `file://` uri.

        Raises:
            BadValueError: the policy is elsewhere, or nowhere (a ValueError).
        """
        if self.uri is None:
            sentence = f"'{self.run_name}' has no uri, so it is no file."
            raise BadValueError("uri", sentence, hint="store.save(record, 'checkpoints/model_0101.pt') makes one")
        if not self.uri.startswith(FILE):
            hint = "metta_hub.pull(REF) writes a published policy as files"
            raise BadValueError("uri", f"{self.uri} is no file.", hint=hint)
        return self.uri.removeprefix(FILE)

    @property
    def policy(self) -> "Module":
        """The policy, in eval mode on the store's device; loaded when it was not yet.

        Raises:
            BadValueError: there is no store, or no uri, to load it from (a ValueError).
            MettaHubError: as `metta_hub.from_pretrained`.
        """
        if self.cached_policy is not None:
            return self.cached_policy
        missing = "store" if self.policy_store is None else "uri"
        if self.policy_store is None or self.uri is None:
            sentence = f"'{self.run_name}' has no policy, and no {missing} to load one from."
            raise BadValueError(missing, sentence, hint="set record.policy, or take the record from a PolicyStore")
        return self.policy_store.load_policy(self)

    @policy.setter
    def policy(self, policy: "Module | None") -> None:
        self.cached_policy = policy

    def policy_as_metta_agent(self) -> "Module":
        """The policy, if it is one of Metta's agents.

        Raises:
            BadTypeError: it is another module (a TypeError).
        """
        policy = self.policy
        kinds = {kind.__name__ for kind in type(policy).__mro__}
        if kinds & AGENTS:
            return policy
        sentence = f"The policy of '{self.run_name}' is a {type(policy).__name__}, and no agent of Metta's."
        raise BadTypeError("policy", sentence, hint="record.policy gives it whatever it is")

    @property
    def num_params(self) -> int:
        """How many parameters can be trained."""
        return sum(parameter.numel() for parameter in self.policy.parameters() if parameter.requires_grad)

    def __repr__(self) -> str:
        return f"PolicyRecord(run_name={self.run_name!r}, uri={self.uri!r}, metadata={self.metadata!r})"
