"""What a row of the table of keys says."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Keys:
    """The row of one verb: its root and the slots it writes.

    Attributes
    ----------
    root
        Default of ``key_added``; also the name of the `uns` entry with parameters.
    slots
        Slot -> what it holds (dtype, shape, meaning).
    arrays
        Entries of ``uns[root]`` beside ``params``, ``keys`` and ``version``.
    """

    root: str
    slots: dict[str, str]
    arrays: dict[str, str] = field(default_factory=dict)

    def name(self, slot: str, key_added: str | None = None) -> tuple[str, str]:
        """Attribute and key of a slot, with the root filled in."""
        attribute, key = slot.split(":", 1)
        return attribute, key.format(root=key_added or self.root)
