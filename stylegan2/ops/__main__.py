"""python -m stylegan2.ops: build the CUDA kernels ahead of time, say what is in use and why, measure them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Annotated

import torch
import typer

from stylegan2 import console, zoo
from stylegan2.errors import WplusError
from stylegan2.ops import build as building
from stylegan2.ops import library

app = console.app(__doc__.split(": ", 1)[1].capitalize())


@app.command()
def build(
    arch: Annotated[list[str] | None, typer.Option(help="80, 90, ...; none: that of the GPU in this machine.")] = None,
) -> None:
    """Compile the kernels into the cache (half a minute), or find them there, and print where they lie."""
    print(building.build(*(sorted(set(arch)) if arch else building.here())))


@app.command()
def info() -> None:
    """Print what there is to compile with, what is in the cache, and whether the kernels are in use."""
    compiler, maker = building.nvcc(), building.ninja()
    try:
        version = building.release(compiler) if compiler else "not found"
    except WplusError as error:
        version = str(error)
    print(f"torch     {torch.__version__}, CUDA {torch.version.cuda or 'none'}, Python {platform.python_version()}")
    print(f"nvcc      {version}" + (f" ({compiler})" if compiler else ""))
    print(f"ninja     {maker or 'not found'}")
    builds = sorted(file.parent.name for file in (zoo.home() / zoo.KERNELS).glob(f"*/{building.NAME}"))
    print(f"cache     {', '.join(builds) or 'empty'} ({zoo.home() / zoo.KERNELS})")
    if not torch.cuda.is_available():
        print("in use    the reference (this PyTorch sees no CUDA device)")
        return
    found = library.get("cuda")
    which = f"the kernels of {found.path}" if found else "the reference"
    print(f"in use    {which} ({torch.cuda.get_device_name()}, sm_{', sm_'.join(building.here())})")


@app.command()
def bench(
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 4,
    dtype: Annotated[str, typer.Option(help="float16, bfloat16 or float32.")] = "float16",
    network: Annotated[bool, typer.Option(help="Whole pictures, too.")] = True,
    least: Annotated[int, typer.Option(min=32, max=1024, help="Operators at this resolution and above.")] = 32,
    compiled: Annotated[bool, typer.Option(help="Against torch.compile, too, which takes minutes.")] = True,
) -> None:
    """Time the kernels on the shapes of StyleGAN2 at 1024 pixels against plain PyTorch, and print a table."""
    from stylegan2.ops import bench

    bench.operators(batch, dtype, compiled, least)
    if network:
        bench.networks(dtype, compiled)


def main(args: Sequence[str] | None = None, prog: str = "python -m stylegan2.ops") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
