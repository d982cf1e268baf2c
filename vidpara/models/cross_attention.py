"""SVD's cross-attention sees one token, so its softmax is 1: attention is to_out(to_v(token)), whatever the query.

Queries, keys, and the norm before them then have no effect and get no gradient. Here they are not computed, and frozen,
so that data parallelism and the optimizer know. The weights keep their names: a saved UNet loads anywhere.
"""

from __future__ import annotations

from typing import cast

from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import nn

from vidpara.types import Float, Tensor


class SingleToken:
    """An attention processor of diffusers for a context of one token. Exact, not an approximation."""

    def __call__(
        self,
        attention: Attention,
        hidden_states: Float[Tensor, "b n c"],
        encoder_hidden_states: Float[Tensor, "b m d"],
        attention_mask: Tensor | None = None,
    ) -> Float[Tensor, "b 1 c"]:
        """One row for all queries; what follows adds it to each of them.

        Raises:
            ValueError: the context has several tokens.
        """
        if encoder_hidden_states.shape[1] != 1:
            raise ValueError(
                f"the context has {encoder_hidden_states.shape[1]} tokens; the shortcut is exact for one only: "
                "set --unet.single_token False"
            )
        to_v, to_out = cast(nn.Linear, attention.to_v), cast(nn.ModuleList, attention.to_out)
        value = to_v(encoder_hidden_states)
        for layer in to_out:
            value = layer(value)
        return value


def use_single_token(unet: nn.Module) -> None:
    """Give every cross-attention of the UNet the shortcut, and freeze what it leaves without effect."""
    for block in unet.modules():
        if (
            isinstance(block, BasicTransformerBlock | TemporalBasicTransformerBlock)
            and block.attn2 is not None
        ):
            block.attn2.set_processor(SingleToken())
            for unused in (block.norm2, block.attn2.to_q, block.attn2.to_k):
                cast(nn.Module, unused).requires_grad_(False)
            cast(nn.Module, block.norm2).forward = _as_given  # of what no query is made from


def _as_given(hidden_states: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
    return hidden_states
