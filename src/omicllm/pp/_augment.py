"""`omicllm.pp.augment`: synthetic rows for a labelled cohort."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.blocks import is_lazy
from omicllm._core.log import logger
from omicllm.pp import _cohort
from omicllm.sampling import samplers
from omicllm.sampling.recombination import crossover_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

METHODS = (*samplers.SAMPLERS, "vae")
#: Samplers that draw from differences between rows of a class.
_NEED_TWO = ("smote", "vae")
_WHOLE = (int, np.integer)


@docs.fill()
def augment(
    adata: AnnData | MuData,
    *,
    labels_key: str,
    method: str = "gamma_poisson",
    n_new: int | Mapping[str, int] | None = None,
    class_size: int | Literal["max"] | None = None,
    signatures: Mapping[str, Sequence[str]] | None = None,
    layer: str | None = None,
    r: int = 5,
    dispersion: Literal["reference", "matched"] = "reference",
    k: int = 5,
    vae: Mapping[str, Any] | None = None,
    split_key: str = "split",
    allow_unsplit: bool = False,
    only_synthetic: bool = False,
    n_jobs: int | None = None,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
) -> AnnData:
    """Draw synthetic rows for each class from the training rows of a cohort.

    Parameters
    ----------
    {adata}
    labels_key
        Column of `obs` with the class of each row. Rows without a label are kept as they are and
        never sampled from.
    method
        ``"gamma_poisson"``, ``"poisson"``: Poisson draws around the mean of `r` distinct rows of
        the class, with Gamma rates of their variance or without. ``"unmod_poisson"``,
        ``"unmod_gamma_poisson"``: one rate per class and gene. These four need counts.
        ``"replacement"``: rows drawn again. ``"smote"``: points between neighbours.
        ``"local_crossover"``, ``"global_crossover"``: the genes of each signature from another
        row. ``"vae"``: a small variational autoencoder.
    n_new
        New rows per class: a number, or one for each class by name.
    class_size
        Rows that each class should have in the training set, real and new. ``"max"``, the default
        when `n_new` is not given, is the size of the largest class.
    signatures
        Name -> genes, for the crossovers. The signature that bears the name of a class is that
        class's own; ``"global_crossover"`` needs one for every class.
    {layer}
    r
        Rows that one draw is made from; classes with fewer use all they have.
    dispersion
        ``"reference"`` as published. ``"matched"`` takes the Poisson noise out of the variance
        before it adds it again (Gamma samplers), or adds the decoder's residual spread (VAE).
    k
        Neighbours of ``"smote"``; fewer in smaller classes.
    vae
        Settings of ``"vae"``: ``n_hidden``, ``n_latent``, ``max_epochs``, ``patience``, ``lr``,
        ``weight_decay``, ``batch_size``.
    split_key
        Column of `obs` with the split; rows marked ``"train"`` are sampled from.
    allow_unsplit
        Sample from all labelled rows of an object without a split.
    only_synthetic
        Return the new rows alone.
    n_jobs
        Threads; all cores this process may use when None. The result does not depend on it.
    {rng}
    {mod}

    Returns
    -------
    A new AnnData with the real rows (values of ``X``, or of `layer`) and after them the synthetic
    ones, class by class. It keeps `var`, `varm`, `varp` and `uns`; `layers`, `obsm`, `obsp` and
    `raw`, which synthetic rows do not have, are left out, and other columns of `obs` are missing
    in synthetic rows. It has these fields:

    ``obs["synthetic"]`` : bool
        Drawn by a sampler.
    ``obs["sampler"]`` : categorical
        Which one; missing in real rows.
    ``obs[labels_key]``, ``obs[split_key]``
        Class, and ``"train"``, of the new rows.
    ``uns["augment"]``
        Parameters, ``classes``, rows fitted on (``n_real``) and rows drawn (``n_new``).

    Raises
    ------
    KeyError
        No such column or layer; signatures whose genes are not there.
    ValueError
        No split; values that are no counts for a sampler that draws counts; NaN or infinite
        values; no labelled training row; one row in a class, for ``"smote"`` and ``"vae"``.

    Notes
    -----
    With N rows, mean μ and variance S² of a gene in a class, rows of ``"gamma_poisson"`` have mean
    μ and variance μ + S²(1 + 1/r - 1/N), ``"poisson"`` μ + S²(1/r - 1/N), ``"unmod_poisson"`` μ,
    ``"replacement"`` S²(N - 1)/N. Genes are drawn one by one, so the Poisson family loses most of
    the correlation between genes (``"poisson"`` keeps what the mean of r rows carries). A gene
    that is zero in the rows it is drawn from stays zero. Calling it again on the result, with
    another method, adds rows; synthetic rows are never sampled from.

    The order of observations and of genes matters: values are drawn in it, so that from the same
    object in another order other rows are drawn, as with another `rng`.
    """
    source = inputs.resolve(adata, mod)
    checks.one_of("method", method, METHODS)
    checks.one_of("dispersion", dispersion, ("reference", "matched"))
    checks.whole_number("r", r)
    checks.whole_number("k", k)
    of_methods = {
        "r": ("gamma_poisson", "poisson"), "k": ("smote",), "vae": ("vae",),
        "dispersion": ("gamma_poisson", "unmod_gamma_poisson", "vae"),
    }  # fmt: skip
    unheard = [name for name, methods in of_methods.items() if method not in methods]
    checks.no_effect(augment, locals(), unheard, because=f"with method={method!r}")
    threads = _threads() if n_jobs is None else checks.whole_number("n_jobs", n_jobs)
    generator = rngs.generator(rng)
    train = _training_rows(source, split_key, allow_unsplit=allow_unsplit)
    codes, names = _cohort.labels(source, labels_key)
    codes = np.where(train, codes, -1)
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    wanted = _wanted(sizes, names, n_new, class_size)
    _check_classes(sizes, wanted, names, method)
    blocks = _signatures(source, signatures, method, names)
    used = np.flatnonzero(codes >= 0)
    X = inputs.matrix(source, layer)
    fitted = _cohort.rows_of(X, used)
    _cohort.check_values(
        fitted,
        np.asarray(source.obs_names)[used],
        counts=method in samplers.COUNT_SAMPLERS,
        layer=layer,
        source=source,
        method=method,
    )
    entropy = int(generator.integers(2**63))
    drawn: Any
    if method == "vae":
        drawn = _from_vae(fitted, codes[used], wanted, dispersion, vae, entropy)
    else:
        options = samplers.Options(r=r, dispersion=dispersion, k=k)
        if blocks is not None:
            options = samplers.Options(
                blocks=crossover_blocks(
                    blocks, codes[used], names, source.n_vars, entropy,
                    everywhere=method == "global_crossover",
                )
            )  # fmt: skip
        drawn = samplers.sample(
            method,
            fitted,
            codes[used],
            wanted,
            entropy=entropy,
            options=options,
            n_jobs=threads,
            on_client=is_lazy(X),
        )
    new = np.repeat(np.arange(len(names)), wanted)
    example = used[[int(np.argmax(codes[used] == c)) for c in range(len(names))]][new]
    out = _joined(source, X, drawn, example, only_synthetic=only_synthetic)
    _describe(out, source, labels_key, split_key, new, names, method)
    params = {
        "labels_key": labels_key, "method": method, "layer": layer, "split_key": split_key,
        **({"r": r} if "r" not in unheard else {}), **({"k": k} if "k" not in unheard else {}),
        **({"dispersion": dispersion} if "dispersion" not in unheard else {}),
        **({"vae": dict(vae or {})} if "vae" not in unheard else {}),
        "allow_unsplit": allow_unsplit, "class_size": class_size, "rng": rngs.recorded(rng),
        "n_new": n_new if n_new is None or isinstance(n_new, _WHOLE) else dict(n_new),
    }  # fmt: skip
    arrays = {"classes": names, "n_real": sizes, "n_new": wanted}
    values = {f"obs:{c}": out.obs.pop(c) for c in ("synthetic", "sampler")}
    results.write(out, results.Result("pp.augment", values, params, arrays))
    return out


def _threads() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _training_rows(source: AnnData, split_key: str, *, allow_unsplit: bool) -> np.ndarray:
    """Real rows that may be sampled from."""
    real = ~_cohort.synthetic(source)
    if split_key not in source.obs:
        if allow_unsplit:
            return real
        msg = (
            f"adata.obs has no {split_key!r}: rows sampled from the whole cohort would carry its "
            "test rows into training. Call ol.pp.split(adata, ...) first, name the column with "
            "split_key=, or pass allow_unsplit=True when the test data are elsewhere."
        )
        raise ValueError(msg)
    train = real & _cohort.part(source, split_key, "train")
    if not train.any():
        found = sorted(set(np.asarray(source.obs[split_key]).astype(str)))
        msg = (
            f"No real row is marked 'train' in adata.obs[{split_key!r}] (there: "
            f"{checks.listed(found)}). Make it with ol.pp.split(adata, ...)."
        )
        raise ValueError(msg)
    return train


def _wanted(
    sizes: np.ndarray,
    names: list[str],
    n_new: int | Mapping[str, int] | None,
    class_size: int | str | None,
) -> np.ndarray:
    """New rows for each class."""
    if n_new is not None and class_size is not None:
        msg = "Give n_new= (rows to add) or class_size= (rows in the end), not both."
        raise ValueError(msg)
    if n_new is None:
        if class_size is None or class_size == "max":
            size = int(sizes.max())
        else:
            size = checks.whole_number("class_size", class_size)
        return np.where(sizes > 0, np.maximum(size - sizes, 0), 0)
    if isinstance(n_new, _WHOLE):
        return np.where(sizes > 0, checks.whole_number("n_new", n_new, at_least=0), 0)
    out = np.zeros(len(names), dtype=np.int64)
    for name, n in n_new.items():
        if str(name) not in names:
            raise checks.missing(str(name), "the classes", names, hint="Name others in n_new=.")
        out[names.index(str(name))] = checks.whole_number(f"n_new[{name!r}]", n, at_least=0)
    return out


def _check_classes(sizes: np.ndarray, wanted: np.ndarray, names: list[str], method: str) -> None:
    if not sizes.any():
        msg = "No training row has a label: there is nothing to sample from."
        raise ValueError(msg)
    empty = [n for n, s, w in zip(names, sizes, wanted, strict=True) if w and not s]
    if empty:
        msg = f"Class {checks.listed(empty)} has no training row to sample from."
        raise ValueError(msg)
    unseen = [n for n, s in zip(names, sizes, strict=True) if not s]
    if unseen:
        logger.warning("no training row of %s: nothing is drawn for it", checks.listed(unseen))
    single = [n for n, s, w in zip(names, sizes, wanted, strict=True) if w and s == 1]
    if single and method in _NEED_TWO:
        msg = (
            f"Class {checks.listed(single)} has one training row, and method={method!r} needs at "
            "least two. Use a Poisson sampler, drop the class, or set n_new for the others."
        )
        raise ValueError(msg)
    if single:
        logger.warning(
            "class %s has one training row: all its new rows come from it", checks.listed(single)
        )
    if not wanted.any():
        logger.warning("no row is drawn: every class has the size asked for (see n_new=)")


def _signatures(
    source: AnnData, signatures: Mapping[str, Sequence[str]] | None, method: str, names: list[str]
) -> dict[str, np.ndarray] | None:
    """Columns of each signature, or None where the method has no use for them."""
    from omicllm._core.names import positions

    if not method.endswith("crossover"):
        if signatures is not None:
            msg = f"signatures= are for the crossovers; method is {method!r}."
            raise ValueError(msg)
        return None
    if not signatures:
        msg = f"method={method!r} needs signatures=, a dict of name -> genes."
        raise ValueError(msg)
    lacking = [n for n in names if n not in {str(s) for s in signatures}]
    if method == "global_crossover" and lacking:
        msg = (
            f"'global_crossover' needs a signature for every class; {checks.listed(lacking)} has "
            "none in signatures=."
        )
        raise ValueError(msg)
    available = inputs.gene_names(source)
    return {
        str(name): positions(list(genes), available, argument=f"genes of signature {name!r}")
        for name, genes in signatures.items()
    }


def _from_vae(
    X: Any,
    codes: np.ndarray,
    wanted: np.ndarray,
    dispersion: str,
    settings: Mapping[str, Any] | None,
    entropy: int,
) -> Any:
    from omicllm.train._vae import sample_vae

    return sample_vae(
        X, codes, wanted, residual=dispersion == "matched", entropy=entropy, **(settings or {})
    )


def _joined(
    source: AnnData, X: Any, drawn: Any, example: np.ndarray, *, only_synthetic: bool
) -> AnnData:
    """The new object, without its description: real rows, then synthetic ones."""
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    obs = source.obs
    if not isinstance(obs, pd.DataFrame):
        obs = obs.to_memory()
    real = np.arange(0 if only_synthetic else source.n_obs)
    if len(real):
        own = _cohort.rows_of(X, real).astype(drawn.dtype)
        if sparse.issparse(drawn):
            drawn = sparse.vstack([own, drawn], format="csr")
        else:
            drawn = np.concatenate([own, drawn])
    obs = obs.iloc[np.concatenate([real, example])].copy()
    var = source.var if isinstance(source.var, pd.DataFrame) else source.var.to_memory()
    out = ad.AnnData(drawn, obs=pd.DataFrame(index=np.arange(len(obs)).astype(str)), var=var.copy())
    for key, value in source.varm.items():
        out.varm[key] = value.copy()
    for key, value in source.varp.items():
        out.varp[key] = value.copy()
    out.uns.update(copy.deepcopy(dict(source.uns)))
    out.obs = obs.reset_index(drop=True).set_axis(out.obs_names)
    for what in ("layers", "obsm", "obsp"):
        if len(getattr(source, what)):
            logger.info("%s are left out: synthetic rows have none", what)
    return out


def _describe(
    out: AnnData,
    source: AnnData,
    labels_key: str,
    split_key: str,
    new: np.ndarray,
    names: list[str],
    method: str,
) -> None:
    """Names and obs of the new rows; what is not known of them is missing."""
    import pandas as pd

    first = out.n_obs - len(new)
    fresh = np.arange(out.n_obs) >= first
    earlier = np.asarray(source.obs_names)[:first].astype(str)
    number = np.arange(len(new)) - np.searchsorted(new, new)
    for round_ in range(first + 1):
        end = "" if round_ == 0 else f".{round_}"
        labels = [f"{names[c]}-{method}-S{i}{end}" for c, i in zip(new, number, strict=True)]
        if not set(labels) & set(earlier):
            break
    before = _cohort.synthetic(source)[:first]
    was = np.asarray(source.obs["sampler"])[:first] if "sampler" in source.obs else None
    known = {labels_key, split_key, "synthetic", "sampler"}
    for column in out.obs.columns:
        if column in known or not len(new):
            continue
        values = out.obs[column]
        if values.dtype.kind == "b":
            values = values.astype("boolean")
        elif values.dtype.kind in "iu":
            values = values.astype("Int64")
        out.obs[column] = values.mask(fresh)
    out.obs_names = [*earlier, *labels]
    out.obs["synthetic"] = np.concatenate([before, np.ones(len(new), dtype=bool)])
    sampler = np.full(out.n_obs, None, dtype=object)
    if was is not None:
        sampler[:first] = [s if isinstance(s, str) else None for s in was]
    sampler[first:] = method
    out.obs["sampler"] = pd.Categorical(sampler)
