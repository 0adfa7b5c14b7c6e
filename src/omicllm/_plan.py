"""`omicllm.plan`: time and memory of a verb, before it runs."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from omicllm._core import plan_genome, plan_text, plan_tissue
from omicllm._core.checks import listed
from omicllm._core.inputs import resolve
from omicllm._core.lazy import quiet_import
from omicllm._core.plan import Plan, as_bytes, available_bytes, predicted
from omicllm._core.plan_sizes import Sizes, sizes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

MODELS: dict[str, Callable[..., Any]] = (
    plan_tissue.MODELS | plan_text.MODELS | plan_genome.MODELS  # type: ignore[operator]
)
#: Longer than this, a plan says what could be changed.
_LONG = 3600.0


def plan(data: AnnData | MuData | None, verb: str, **params: Any) -> Plan:
    """Predict how long a verb will take and how much memory it will need.

    Nothing is computed and nothing is written: sizes come from shapes, from the number of stored
    values, and from columns of `obs` and `var`. Times are those of one core, measured on simulated
    data and scaled to this machine by a few milliseconds of work; in tests they were within a
    factor of 2, on real data they depend on the data too.

    Parameters
    ----------
    data
        What the verb would be given: AnnData, MuData (with ``mod=``), backed or lazy.
    verb
        Its name: ``"sigel"``, ``"tl.sigel"``, ``"pp.augment"``.
    params
        Arguments of the verb, as it would be called with them.

    Returns
    -------
    :class:`omicllm._core.plan.Plan`
        ``seconds``, ``peak_bytes`` (beside what the object and loaded packages hold),
        ``available_bytes``, ``fits``, ``path`` (how data are read, blocks, dask, pooling, CPU or
        GPU) and ``advice`` (what to change, where it does not fit or takes hours).

    Raises
    ------
    ValueError
        A verb that does not exist, a verb or variant without a cost model, or an empty object.
    TypeError
        An argument that the verb does not have, or one that it needs and was not given.
    KeyError
        A layer, column or entry that is not there.

    Examples
    --------
    >>> import omicllm as ol
    >>> adata = ol.datasets.mouse_olfactory_bulb()
    >>> ol.plan(adata, "sigel").fits
    True
    """
    name = _full_name(verb)
    given, first = _arguments(name, params)
    if first == "mdata":
        if not hasattr(data, "mod"):
            msg = f"{name} takes a MuData, not {type(data).__name__}."
            raise TypeError(msg)
        sizes: Any = Sizes(data, data.n_obs, data.n_vars)  # type: ignore[union-attr]
    elif data is None and given.get("fasta") is not None:
        sizes = None
    else:
        layer = given.get("layer")
        sizes = sizes_of(resolve(data, given.get("mod")), layer if isinstance(layer, str) else None)  # type: ignore[arg-type]
    try:
        cost = MODELS[name](sizes, given)
    except ZeroDivisionError as error:  # sizes per observation or gene
        msg = f"There is nothing to plan: the object has shape {(sizes.n, sizes.m)}."
        raise ValueError(msg) from error
    seconds, n_bytes = predicted(cost)
    path = [*(sizes.said if sizes is not None else ()), *cost.path]
    advice = list(cost.advice)
    if cost.on_gpu:
        path.append(_device(given))
        if "devices" in given:
            advice.append("train on a GPU with accelerator='gpu', on several with devices=")
    if given.get("copy") and sizes is not None:
        n_bytes += sizes.held
        path.append(f"copy=True: the object is copied first, {as_bytes(sizes.held)} for X")
        advice.append("leave out copy=: results are then written into the object")
    free = available_bytes()
    out = Plan(name, seconds, int(n_bytes), free, tuple(path))
    if out.fits and seconds < _LONG:
        return out
    return Plan(name, seconds, int(n_bytes), free, tuple(path), tuple(advice))


def _full_name(verb: str) -> str:
    """``"sigel"`` or ``"ol.tl.sigel"`` as ``"tl.sigel"``."""
    short = str(verb).removeprefix("ol.").removeprefix("omicllm.")
    for name in (short, f"tl.{short}", f"pp.{short}"):
        if name in MODELS:
            return name
    for room in ("tl", "pp"):
        names = importlib.import_module(f"omicllm.{room}").__all__
        if short.removeprefix(f"{room}.") in names:
            msg = f"There is no cost model for {verb!r}. {_known()}"
            raise ValueError(msg)
    msg = f"There is no verb {verb!r}. {_known()}"
    raise ValueError(msg)


def _known() -> str:
    return f"Verbs that can be planned: {listed(sorted(MODELS), most=len(MODELS))}."


def _arguments(name: str, params: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Arguments of the verb with its defaults, and the name of its first one."""
    room, verb = name.split(".")
    function = getattr(importlib.import_module(f"omicllm.{room}"), verb)
    first, *rest = inspect.signature(function).parameters.values()
    names = [p.name for p in rest]
    unknown = [n for n in params if n not in names]
    if unknown:
        msg = f"{name} has no argument {listed(unknown)}. It has: {listed(names, most=len(names))}."
        raise TypeError(msg)
    needed = [p.name for p in rest if p.default is p.empty and p.name not in params]
    if needed:
        msg = f"{name} needs {listed(needed)}: pass the arguments it would be called with."
        raise TypeError(msg)
    return {p.name: params.get(p.name, p.default) for p in rest}, first.name


def _device(params: dict[str, Any]) -> str:
    """Where a network runs."""
    if params.get("accelerator", "auto") == "cpu":
        return "CPU"
    torch = quiet_import("torch")
    if not torch.cuda.is_available():
        return "CPU"
    return "GPU cuda:0; the time is that of one CPU core, and so an upper bound"
