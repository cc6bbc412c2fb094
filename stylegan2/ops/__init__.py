"""Operators of the StyleGAN2 family: `upfirdn2d`, `bias_act`, `finish`, `inverse_haar`, dispatched by device.

Call them like functions; `bias_act.reference` is the plain-PyTorch version.  On a GPU they are compiled kernels (csrc/,
built on first use; `python -m stylegan2.ops build|info|bench`), and everything works without.
"""

from stylegan2.ops import bias_act as _bias_act
from stylegan2.ops import compiled as _compiled
from stylegan2.ops import finish as _finish
from stylegan2.ops import haar as _haar
from stylegan2.ops import upfirdn2d as _upfirdn2d
from stylegan2.ops.dispatch import Operator
from stylegan2.ops.upfirdn2d import resample_padding, setup_fir

bias_act = Operator(_bias_act.bias_act, _compiled.bias_act)
upfirdn2d = Operator(_upfirdn2d.upfirdn2d, _compiled.upfirdn2d)
finish = Operator(_finish.finish, _compiled.finish)
inverse_haar = Operator(_haar.inverse_haar, _compiled.inverse_haar)

__all__ = ["Operator", "bias_act", "finish", "inverse_haar", "resample_padding", "setup_fir", "upfirdn2d"]
