"""The options of a component as its configuration has them: strangers' JSON, bounded before it is believed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from metta_hub.errors import ArchitectureError
from metta_hub.strict_json import JSON

#: The largest size of one axis.
MAX_SIZE = 1 << 30
#: The most layers, blocks or heads of one component.
MAX_LAYERS = 64

PARAMETERS = "nn_params"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one component; those that it does not know are ignored, as Metta ignores them.

    Attributes:
        component: its name, for errors.
        values: the configuration.
    """

    component: str
    values: Mapping[str, JSON]

    @property
    def parameters(self) -> "Options":
        """Those that stand under `nn_params`."""
        inner = self.values.get(PARAMETERS)
        return Options(self.component, inner if isinstance(inner, dict) else {})

    def size(self, key: str, default: int | None = None, *, least: int = 1, most: int = MAX_SIZE) -> int:
        """A whole number; square ones may be written as a pair of equal numbers.

        Raises:
            ArchitectureError: it is missing and has no default, or is no number from `least` to `most`.
        """
        value = self.values.get(key, default)
        if value is None and default is not None:
            value = default
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:  # noqa: PLR2004  (a pair)
            value = value[0]
        if type(value) is not int or not least <= value <= most:
            raise self.refusal(key, f"a whole number from {least} to {most:,}")
        return value

    def optional_size(self, key: str) -> int | None:
        """A whole number, or None where there is none.

        Raises:
            ArchitectureError: it is something else.
        """
        return None if self.values.get(key) is None else self.size(key)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false.

        Raises:
            ArchitectureError: it is neither.
        """
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.refusal(key, "true or false")
        return value

    def ratio(self, key: str, default: float, *, least: float, most: float) -> float:
        """A number.

        Raises:
            ArchitectureError: it is none from `least` to `most`.
        """
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise self.refusal(key, f"a number from {least} to {most}")
        return float(value)

    def choice(self, key: str, default: str, known: Collection[str]) -> str | None:
        """One of the known words, or null.

        Raises:
            ArchitectureError: it is another.
        """
        value = self.values.get(key, default)
        if value is not None and (not isinstance(value, str) or value not in known):
            raise self.refusal(key, f"null or one of {', '.join(known)}")
        return value

    def refusal(self, key: str, wanted: str) -> ArchitectureError:
        """The error for an option that is not what is wanted."""
        was = "missing" if key not in self.values else repr(self.values[key])[:80]
        return ArchitectureError(self.component, f"needs {key} to be {wanted}, and it is {was}")
