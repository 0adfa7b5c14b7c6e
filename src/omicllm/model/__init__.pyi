from ._genemask import GeneMaskLM as GeneMaskLM
from ._omic_lm import OmicLM as OmicLM
from ._personal_expression import PersonalExpression as PersonalExpression
from ._sigel import SIGEL as SIGEL
from ._sigel_imputer import SIGELImputer as SIGELImputer
from ._spam import SPAM as SPAM
from ._ult import ULT as ULT
