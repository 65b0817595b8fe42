"""A gated recurrent unit over a history. Letters: B histories, L items, W width of an item, X = 3 W of the gates."""

from typing import cast, final

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional

from torch_reference.layers.pooling import at_last_item


@final
class GruPooling(nn.Module):
    """The state behind the last item; the formula of `config.GruPooling`, which is `nn.GRU`'s, from a state of zeros.

    Padding stands behind the items, so that no state of an item depends on it.

    Source: Hidasi et al., ICLR 2016 (GRU4Rec); the reset gate acts behind the recurrent kernel, as in cuDNN.
    """

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Build the weights.

        Args:
            width: W.
            dtype: of the computation.
        """
        super().__init__()
        self._gru = nn.GRU(width, width, batch_first=True, dtype=getattr(torch, dtype))

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part -> tensor, and whether it is transposed; reset, update and new lie behind each other."""
        gru = self._gru
        return {
            "input_kernel": (cast(Tensor, gru.weight_ih_l0), True),
            "input_bias": (cast(Tensor, gru.bias_ih_l0), False),
            "recurrent_kernel": (cast(Tensor, gru.weight_hh_l0), True),
            "recurrent_bias": (cast(Tensor, gru.bias_hh_l0), False),
        }

    def forward(self, items_BLW: Tensor, real_BL: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pool.

        Args:
            items_BLW: items [B, L, W], zeros at padded places, which stand behind.
            real_BL: True where there is an item [B, L].
            generator: not used; there is no dropout inside.

        Returns:
            Vectors [B, W]; zeros for an empty history.
        """
        return at_last_item(self.places(items_BLW, real_BL, generator), real_BL)

    def places(self, items_BLW: Tensor, real_BL: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The state behind every item [B, L, W]; at padded places anything finite. Arguments as of `forward`."""
        if torch.compiler.is_exporting():
            return self._scanned(items_BLW)
        states_BLW, _ = self._gru(items_BLW)
        return cast(Tensor, states_BLW)

    def _scanned(self, items_BLW: Tensor) -> Tensor:
        """The same by a scan over the items: in a program, `nn.GRU` would be cut for one length of history."""
        width, weights = items_BLW.shape[2], [cast(Tensor, weight) for weight in self._gru.all_weights[0]]
        input_XW, recurrent_XW, input_X, recurrent_X = weights

        def step(state_BW: Tensor, mapped_BX: Tensor) -> tuple[Tensor, Tensor]:
            recurrent_BX = functional.linear(state_BW, recurrent_XW, recurrent_X)
            gates = torch.sigmoid(mapped_BX[:, : 2 * width] + recurrent_BX[:, : 2 * width])
            reset_BW, update_BW = gates[:, :width], gates[:, width:]
            new_BW = torch.tanh(mapped_BX[:, 2 * width :] + reset_BW * recurrent_BX[:, 2 * width :])
            state_BW = (1 - update_BW) * new_BW + update_BW * state_BW
            return state_BW, state_BW.clone()

        mapped_LBX = functional.linear(items_BLW, input_XW, input_X).transpose(0, 1).contiguous()
        _, states_LBW = scan(step, items_BLW.new_zeros(items_BLW.shape[0], width), mapped_LBX)
        return states_LBW.transpose(0, 1)
