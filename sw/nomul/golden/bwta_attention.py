"""Reference of `nomul.attention.bwta_attention`: packed queries, scores, boolean attention, the product with values."""

from torch import Tensor

from nomul.golden.bwta import matmul, pack
from nomul.golden.threshold import boolean, ternary

__all__ = ["attend"]


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, query_scale: Tensor | int, score_scale: Tensor | int
) -> Tensor:
    """Return y = V^T boolean(K ternary(q)) for each query, int32 [tokens, size].

    Parameters
    ----------
    queries : Tensor
        Integers [tokens, size].
    keys, values : Tensor
        int8 [keys, size] of -1, 0, 1.
    query_scale, score_scale : int or Tensor
        s of both thresholds; tensors [tokens, 1].
    """
    scores = matmul(pack(keys), pack(ternary(queries, query_scale)))
    return matmul(pack(values.T.contiguous()), pack(boolean(scores, score_scale)))
