"""Model classes in the style of scvi-tools: set up, train, get, save, load."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "GeneMaskLM": "_genemask",
        "PersonalExpression": "_personal_expression",
        "SIGEL": "_sigel",
        "SIGELImputer": "_sigel_imputer",
        "SPAM": "_spam",
        "ULT": "_ult",
        "OmicLM": "_omic_lm",
    },
)
