"""Small real sets: bundled, or fetched once; and made-up sets with a known answer."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "geomx_kidney": "_bundled",
        "mouse_olfactory_bulb": "_bundled",
        "osmfish_cortex": "_bundled",
        "osmfish_reference": "_bundled",
        "genemask_ranks": "_downloads",
        "her2st_image": "_downloads",
        "ult_table": "_downloads",
        "planted_programs": "_simulated",
        "simulated_genome": "_simulated",
        "simulated_people": "_simulated",
        "simulated_promoters": "_promoters",
        "simulated_sequences": "_simulated",
    },
)
