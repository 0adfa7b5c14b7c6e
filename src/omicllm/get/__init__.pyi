from ._gene_embedding import gene_embedding_df as gene_embedding_df
from ._gene_images import gene_images as gene_images
from ._imputed import imputed as imputed
from ._svg import svg_df as svg_df
from ._table import table as table
from ._ult import lut_df as lut_df
from ._variants import ism_df as ism_df
from ._variants import variant_effects_df as variant_effects_df
