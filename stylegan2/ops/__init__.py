"""Operators of the StyleGAN2 family: `upfirdn2d` and `bias_act`, dispatched by device.

Both are `dispatch.Operator`s: call them like functions; `bias_act.reference` is the plain-PyTorch
version and `bias_act.register('cuda', implementation)` adds a faster one.
"""

from stylegan2.ops import bias_act as _bias_act
from stylegan2.ops import upfirdn2d as _upfirdn2d
from stylegan2.ops.dispatch import Operator
from stylegan2.ops.upfirdn2d import resample_padding, setup_fir

bias_act = Operator(_bias_act.bias_act)
upfirdn2d = Operator(_upfirdn2d.upfirdn2d)

__all__ = ["Operator", "bias_act", "resample_padding", "setup_fir", "upfirdn2d"]
