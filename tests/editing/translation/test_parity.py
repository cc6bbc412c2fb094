"""Published layouts: files of every system, read, recognised and run, against figures of the reference code."""

import pytest
import torch

from editing.translation import checkpoints
from editing.translation.networks import (
    BicycleEncoder,
    BicycleGenerator,
    MultiScalePatchGAN,
    PatchGAN,
    ResnetGenerator,
    StarGANDiscriminator,
    StarGANGenerator,
    UnetGenerator,
)
from editing.translation.networks.norms import TrackedInstanceNorm

SYSTEMS = {  # fixture -> network, inputs in order, outputs in order
    "pix2pix_unet256_batch": (UnetGenerator, ["image"], ["output"]),
    "pix2pix_patchgan70_batch": (PatchGAN, ["image"], ["output"]),
    "cyclegan_resnet9_instance": (ResnetGenerator, ["image"], ["output"]),
    "cyclegan_patchgan70_instance": (PatchGAN, ["image"], ["output"]),
    "bicyclegan_g_unet256_all": (BicycleGenerator, ["image", "z"], ["output"]),
    "bicyclegan_e_resnet256": (BicycleEncoder, ["image"], ["mu", "logvar"]),
    "bicyclegan_d_256_multi": (MultiScalePatchGAN, ["image"], ["output_0", "output_1"]),
    "stargan_d128": (StarGANDiscriminator, ["image"], ["src", "cls"]),
}


def written(tmp_path, state):
    path = tmp_path / "latest_net_G.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_file_gives_the_recorded_figures(golden, tmp_path, name):
    figures = golden(name)
    kind, inputs, outputs = SYSTEMS[name]
    network = checkpoints.load(written(tmp_path, figures.state()))
    assert type(network) is kind and not network.training
    with torch.no_grad():
        found = network(*(figures.inputs[i] for i in inputs))
    for output, tensor in zip(outputs, found if isinstance(found, tuple | list) else [found], strict=True):
        figures.check(output, tensor)


def test_cyclegan_takes_pictures_that_are_not_square(golden, tmp_path):
    figures = golden("cyclegan_resnet9_instance")
    network = checkpoints.load(written(tmp_path, figures.state()))
    with torch.no_grad():
        figures.check("output_2", network(figures.inputs["image_small"]))


def test_stargan_with_either_statistics_and_in_training(golden, tmp_path):
    figures = golden("stargan_g")
    network = checkpoints.load(written(tmp_path, figures.state()))
    assert type(network) is StarGANGenerator and network.domains == 5
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = (figures.inputs["image"], figures.inputs["c"])
    with torch.no_grad():
        figures.check("output_train", network(*inputs))  # as published samples are made, and nothing is changed
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        for module in network.modules():
            if isinstance(module, TrackedInstanceNorm):
                module.stored = True
        figures.check("output_eval", network(*inputs))
        figures.check("output_train", network.train()(*inputs))
    figures.check("running_mean_after_train_main.1", network.main[1].running_mean)
    figures.check("running_var_after_train_main.1", network.main[1].running_var)
