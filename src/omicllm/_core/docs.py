"""What public functions share: descriptions of parameters, and the checks that come first."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from omicllm._core import calls

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

PARAMETERS = {
    "adata": "adata\n    Annotated data, observations x genes; or a MuData with `mod`.",
    "mod": "mod\n    Modality of a MuData to work on.",
    "layer": "layer\n    Layer to use instead of ``X``.",
    "key_added": "key_added\n    Name that replaces the root of everything written.",
    "copy": (
        "copy\n    Return a changed copy (a backed object is read into memory) and leave "
        "`adata` alone."
    ),
    "rng": (
        "rng\n    Seed, numpy Generator or None. The same seed gives the same result on the same "
        "machine\n    and thread count; the caller's global random state is not touched."
    ),
    "batch_key": (
        "batch_key\n    Column of `obs` that tells sections apart. An image or graph never crosses "
        "sections."
    ),
    "spatial_key": "spatial_key\n    Entry of `obsm` with coordinates (n_obs, 2).",
    "accelerator": (
        'accelerator\n    Lightning accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, ``"mps"``.'
    ),
    "devices": 'devices\n    Lightning devices: ``"auto"``, a number, or a list of indices.',
    "show_progress": (
        "show_progress\n    Draw a progress bar; None draws one in interactive sessions only."
    ),
    "ax": "ax\n    Axes to draw into; new ones are made when None.",
    "show": "show\n    Call ``plt.show()`` at the end.",
}


def fill(
    *, saves: Literal["folder", "file"] = "folder", **extra: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Replace ``{name}`` lines of a docstring by the shared descriptions, and check calls.

    What is checked before the function runs: :func:`omicllm._core.calls.checked`. `saves` is what
    its ``save=`` names.
    """
    known = PARAMETERS | extra

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        lines = []
        for line in (function.__doc__ or "").splitlines():
            name = line.strip()
            if name.startswith("{") and name.endswith("}") and name[1:-1] in known:
                indent = line[: len(line) - len(line.lstrip())]
                lines.append(textwrap.indent(known[name[1:-1]], indent))
            else:
                lines.append(line)
        function.__doc__ = "\n".join(lines)
        return calls.checked(function, saves=saves)

    return decorate
