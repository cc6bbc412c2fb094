"""Files of HyperStyle: published containers and own ones, written to disk; wrong, damaged and hostile ones."""

import argparse
import os
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import encoders.checkpoints
from hyperstyle.checkpoints import load, load_decoder, save
from hyperstyle.networks import HyperNetwork, HyperStyleConfig
from stylegan2 import checkpoints
from stylegan2.checkpoints import native
from stylegan2.errors import CheckpointError
from tests.hyperstyle import toys
from tests.hyperstyle.toys import AVERAGE, TINY

BLOCK = "hypernet.refinement_blocks"
HEAD = "hypernet.shared_weight_hypernet"


@pytest.fixture(scope="session")
def decoder(generator):
    return toys.decoder(generator)


@pytest.fixture(scope="session")
def separable():
    return toys.drawn(HyperNetwork(HyperStyleConfig(TINY.layers, True, 32, 128, 8, 4)))


def published(hypernet, decoder=None, prefix="", **entries):
    """As the official training writes it; copies of the hyper-head are tensors of one storage there, too."""
    state = {f"{prefix}hypernet.{name}": tensor for name, tensor in hypernet.state_dict().items()}
    state |= {f"{prefix}{name}": tensor for name, tensor in (decoder or {}).items()}
    opts = {"layers_to_tune": ",".join(map(str, hypernet.config.layers)), "device": "cuda:0", "n_iters_per_batch": 5}
    content = {"state_dict": state, "latent_avg": AVERAGE, "opts": opts, "global_step": 7, "best_val_loss": 0.5}
    return content | entries


def write(content, path):
    """In the layout before torch 1.6, which is quicker to read where there are many small tensors."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def equal(one, other):
    """The same network, counters of batch norm aside."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours if not name.endswith("num_batches_tracked")
    )


def is_one_head(hypernet):
    state = hypernet.state_dict()
    return all(state[copy].data_ptr() == state[name].data_ptr() for copy, name in hypernet.config.copies.items())


@pytest.fixture
def refused(tmp_path):
    """refused(content, *words): loading raises one line with the file's name and these words; bytes or an object."""

    def check(content, *words):
        path = tmp_path / "file.pt"
        path.write_bytes(content) if isinstance(content, bytes) else write(content, path)
        with pytest.raises(CheckpointError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(f"{path} ") and message.count(str(path)) == 1 and message.endswith(".")
        assert "\n" not in message and len(message) < 400 and caught.value.__cause__ is None
        for word in words:
            assert word in message, message
        assert not (tmp_path / "marker").exists()

    return check


# ---- sound files


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_published_file(hypernet, generator, decoder, tmp_path, zipped):
    content = published(hypernet, decoder)
    torch.save(content, tmp_path / "hyperstyle.pt", _use_new_zipfile_serialization=zipped)
    loaded = load(tmp_path / "hyperstyle.pt")
    assert loaded.hypernet.config == TINY and loaded.path == tmp_path / "hyperstyle.pt"
    assert equal(loaded.hypernet, hypernet) and is_one_head(loaded.hypernet)
    assert torch.equal(loaded.latent_avg, AVERAGE)
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in loaded.hypernet.parameters())
    assert not any(module.training for module in loaded.hypernet.modules())
    mine = load_decoder(loaded)
    assert checkpoints.source_sha256(mine) == checkpoints.source_sha256(generator)
    pair = torch.zeros(1, 6, 256, 256)
    assert mine.synthesis(torch.zeros(1, 8, 8), loaded.hypernet(pair)).shape == (1, 3, 32, 32)


def test_separable_blocks_are_told_from_the_tensors(separable, decoder, tmp_path):
    write(published(separable, decoder), tmp_path / "h")
    loaded = load(tmp_path / "h")
    assert loaded.hypernet.config == separable.config and equal(loaded.hypernet, separable)


def test_parallel_training_and_old_files(hypernet, decoder, tmp_path):
    """A prefix `module.` on every name, and no counters in batch norm."""
    content = published(hypernet, decoder, prefix="module.")
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if not k.endswith("num_batches_tracked")}
    content["opts"] = argparse.Namespace(**content["opts"])
    write(content, tmp_path / "h")
    loaded = load(tmp_path / "h")
    assert equal(loaded.hypernet, hypernet) and loaded.has_decoder
    assert loaded.hypernet.bn1.num_batches_tracked.item() == 0


def test_the_hyper_head_may_stand_in_one_place_only(hypernet, decoder, tmp_path):
    for keep in (HEAD, f"{BLOCK}.5.hypernet"):
        content = published(hypernet, decoder)
        heads = [name for name in content["state_dict"] if name.split(".")[-2].endswith("hypernet")]
        assert len(heads) == 16  # four tensors on their own, and under three blocks
        for name in heads:
            if not name.startswith(keep):
                del content["state_dict"][name]
        assert sum(name.endswith(".w2") for name in content["state_dict"]) == 1
        write(content, tmp_path / "h")
        assert equal(load(tmp_path / "h").hypernet, hypernet)


def test_options_may_be_silent(hypernet, decoder, tmp_path):
    """Then the blocks alone tell which layers are tuned."""
    for opts in (None, {}, {"layers_to_tune": None}, {"layers_to_tune": ""}, {"layers_to_tune": [9, "8", 0, 2, 5]}):
        write(published(hypernet, decoder, opts=opts), tmp_path / "h")
        assert load(tmp_path / "h").hypernet.config == TINY


def test_fine_layers_alone_need_no_hyper_head(hypernet, decoder, tmp_path):
    content = published(hypernet, decoder, opts={"layers_to_tune": "8,9"})
    state = content["state_dict"]
    content["state_dict"] = {
        k: v for k, v in state.items() if not k.startswith(tuple(f"{BLOCK}.{i}." for i in (0, 2, 5)))
    }
    assert f"{HEAD}.w2" in content["state_dict"]
    write(content, tmp_path / "h")
    loaded = load(tmp_path / "h").hypernet
    assert loaded.config.layers == (8, 9) and not hasattr(loaded, "shared_weight_hypernet")
    assert torch.equal(loaded.refinement_blocks["9"].output[1].weight, hypernet.refinement_blocks["9"].output[1].weight)


def test_without_a_decoder(tmp_path):
    """The generator's channels are the usual ones then, its resolution that of latent_avg or of the options."""
    config = HyperStyleConfig(layers=(0,), resolution=16, width=4)
    network = toys.drawn(HyperNetwork(config))
    rows = torch.arange(6.0)[:, None].repeat(1, 512)
    for entries in ({"latent_avg": rows}, {"latent_avg": rows[0], "opts": {"output_size": 16}}):
        write(published(network, **entries), tmp_path / "h")
        loaded = load(tmp_path / "h")
        assert loaded.hypernet.config == config and loaded.latent_avg.shape == (6, 512)
    write(published(network, latent_avg=None, opts=None), tmp_path / "h")
    loaded = load(tmp_path / "h")
    assert loaded.latent_avg is None and loaded.hypernet.config.resolution == 1024
    with pytest.raises(CheckpointError, match="h holds a hypernetwork without a decoder"):
        load_decoder(loaded)


def test_own_files(hypernet, tmp_path):
    save(hypernet, tmp_path / "own", AVERAGE)
    with safe_open(tmp_path / "own", framework="pt") as file:
        names = set(file.keys())
    assert sum(name.endswith("w2") for name in names) == 1 and "latent_avg" in names
    loaded = load(tmp_path / "own")
    assert loaded.hypernet.config == TINY and equal(loaded.hypernet, hypernet) and is_one_head(loaded.hypernet)
    assert torch.equal(loaded.latent_avg, AVERAGE) and not loaded.has_decoder
    save(loaded.hypernet, tmp_path / "half", loaded.latent_avg, torch.float16)
    half = load(tmp_path / "half").hypernet
    assert (tmp_path / "half").stat().st_size < 0.8 * (tmp_path / "own").stat().st_size
    assert next(half.parameters()).dtype == torch.float32
    pair = torch.rand(1, 6, 256, 256, generator=torch.Generator().manual_seed(0))
    for name, delta in half(pair).items():
        torch.testing.assert_close(delta.factors[0], hypernet(pair)[name].factors[0], atol=0.05, rtol=0.05)
    descriptions = [native.read(tmp_path / name)[1] for name in ("own", "half")]
    assert descriptions[0]["sha256"] == descriptions[1]["sha256"] != descriptions[1]["stored_sha256"]
    save(hypernet, tmp_path / "again", AVERAGE)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "own").read_bytes()


def test_own_files_of_separable_blocks_and_without_an_average(separable, tmp_path):
    save(separable, tmp_path / "own")
    loaded = load(tmp_path / "own")
    assert loaded.hypernet.config == separable.config and equal(loaded.hypernet, separable)
    assert loaded.latent_avg is None


def test_what_cannot_be_saved(hypernet, tmp_path):
    with pytest.raises(ValueError, match="latent_avg must be"):
        save(hypernet, tmp_path / "x", AVERAGE[:2])
    with pytest.raises(ValueError, match="stored as"):
        save(hypernet, tmp_path / "x", AVERAGE, torch.float64)
    with pytest.raises(CheckpointError, match="'latent_avg' does not fit float16"):
        save(hypernet, tmp_path / "x", AVERAGE * 1e6, torch.float16)
    assert not (tmp_path / "x").exists()


# ---- the wrong file


def test_blocks_and_options_must_agree(hypernet, decoder, refused):
    refused(published(hypernet, decoder, opts={"layers_to_tune": "0,2,3,5,8,9"}), "options that list", "no block: 3")
    refused(published(hypernet, decoder, opts={"layers_to_tune": [0, 2]}), "options do not list: 5, 8, 9")
    for nonsense in ("all", [[]], 17, {"a": 1}, float("inf"), [float("inf")]):
        refused(published(hypernet, decoder, opts={"layers_to_tune": nonsense}), "options that list", "not numbers")
    content = published(hypernet, decoder)
    lost = [name for name in content["state_dict"] if name.startswith(f"{BLOCK}.8.")]
    for name in lost:
        del content["state_dict"][name]
    refused(content, "no block: 8")


def test_wrong_tensors_are_named(hypernet, decoder, refused):
    def changed(name, value, **more):
        content = published(hypernet, decoder)
        content["state_dict"] |= more | {name: value}
        if value is None:
            del content["state_dict"][name]
        return content

    state = published(hypernet)["state_dict"]
    conv, kernel = "hypernet.body.3.conv1.weight", f"{BLOCK}.8.output.1.weight"
    for name in (conv, kernel, "hypernet.conv1.weight", f"{BLOCK}.2.linear.bias", "hypernet.body.3.downsample.1.bias"):
        refused(changed(name, None), f"lacks the tensor {name!r}")
    refused(changed(conv, state[conv][:-1]), conv, "(7, 4, 3, 3)", "(8, 4, 3, 3)")
    refused(changed(conv, state[conv] * torch.nan), conv, "not finite")
    refused(changed(conv, state[conv].int()), conv, "int32")
    refused(changed(conv, "x"), conv, "other than a tensor")
    refused(changed(kernel, torch.ones(16, 32, 1, 1)), kernel, "(16, 32, 1, 1)", "(32, 32, 1, 1)")
    refused(changed("hypernet.conv1.weight", torch.ones(4, 3, 7, 7)), "(4, 3, 7, 7)", "(4, 6, 7, 7)")
    refused(changed("hypernet.conv1.weight", torch.ones(9999, 6, 7, 7)), "width must be")
    refused(changed("hypernet.extra", torch.ones(1)), "'hypernet.extra' too many", "plain blocks for 5 layers")
    refused(changed("hypernet.a", torch.ones(1), **{"hypernet.b": 1}), "'hypernet.a' and 1 more tensors too many")
    refused(changed(f"{BLOCK}.8.hypernet.w1", torch.ones(1)), f"'{BLOCK}.8.hypernet.w1' too many")
    refused(changed(f"{BLOCK}.5.hypernet.w1", torch.ones(2)), f"'{BLOCK}.5.hypernet.w1' in another shape")
    refused(changed(f"{BLOCK}.5.hypernet.w1", "x"), f"'{BLOCK}.5.hypernet.w1' in another shape")
    refused(changed(f"{BLOCK}.9.output.0.make_kernel_in.weight", torch.ones(1)), "separable blocks")


def test_layers_that_cannot_be_tuned(hypernet, decoder, refused):
    for number in (1, 14, 999):
        content = published(hypernet, decoder, opts=None)
        content["state_dict"][f"{BLOCK}.{number}.convs.0.weight"] = torch.ones(1)
        refused(content, "not supported", f"layer {number} of 32 pixels cannot be tuned")


def test_a_decoder_with_other_channels(hypernet, refused):
    refused(published(hypernet, toys.decoder(toys.generator(16))), "layer 8 of 16 pixels cannot be tuned")
    content = published(hypernet, toys.decoder(toys.generator(32, channel_base=64)), opts=None)
    refused(content, f"'{BLOCK}.5.convs.6.bias' and 9 more")  # 4 channels at 16 pixels: that block is a plain one
    content = published(hypernet, toys.decoder(toys.generator(32, channel_base=192)))
    refused(content, f"'{BLOCK}.8.output.1.weight'", "(32, 32, 1, 1)", "(48, 32, 1, 1)")
    refused(published(hypernet, latent_avg=torch.ones(10**6, 1)), "powers of two")


def test_wrong_averages(hypernet, decoder, refused):
    refused(published(hypernet, decoder, latent_avg=torch.ones(5, 8)), "'latent_avg'", "(5, 8)", "(8, 8)")
    refused(published(hypernet, decoder, latent_avg=AVERAGE / 0), "not finite", "'latent_avg'")
    refused(published(hypernet, decoder, latent_avg="mean"), "other than a tensor", "'latent_avg'")


def test_other_networks(hypernet, decoder, generator, refused, tmp_path):
    refused({"state_dict": decoder}, "no 'hypernet' in its state dict")
    refused({"state_dict": {"hypernet.conv1.weight": torch.ones(4, 6, 7, 7)}}, "without refinement blocks")
    refused({"g_ema": decoder}, "no 'state_dict'")
    checkpoints.save(generator, tmp_path / "g")
    refused((tmp_path / "g").read_bytes(), "family 'stylegan2-32'", "no hypernetwork")
    encoders.checkpoints.save(toys.w_encoder().encoder, tmp_path / "w")
    refused((tmp_path / "w").read_bytes(), "family 'encoder-w'", "no hypernetwork")
    save_file({"a": torch.ones(2)}, tmp_path / "a")
    refused((tmp_path / "a").read_bytes(), "not a hypernetwork saved by this project")
    save(hypernet, tmp_path / "own")
    with pytest.raises(CheckpointError, match="family 'hypernetwork-hyperstyle': that is no encoder"):
        encoders.checkpoints.load(tmp_path / "own")
    with pytest.raises(CheckpointError, match="family 'hypernetwork-hyperstyle'"):
        checkpoints.load(tmp_path / "own")


CONFIG = '{"layers": [0, 2, 5, 8, 9], "resolution": 32, "channel_base": 128, "channel_max": 8, "width": 4'


@pytest.mark.parametrize("change,words", [
    ({"format": "other"}, "not a hypernetwork saved"), ({"family": "hypernetwork-x"}, "'x'"), ({"version": "2"}, "'2'"),
    ({"config": "{"}, "not understood"), ({"config": "[]"}, "not understood"), ({"config": "{}"}, "not understood"),
    ({"config": '{"layers": 3}'}, "not understood"), ({"config": '{"layers": [1]}'}, "cannot be tuned"),
    ({"config": '{"layers": [0], "x": 1}'}, "not understood"), ({"config": "[" * 9999}, "not understood"),
    ({"config": CONFIG + ', "separable": true}'}, "separable blocks"), ({"config": CONFIG[:-1] + '64}'}, "64"),
    ({"config": CONFIG + ', "separable": 0}'}, "true or false"), ({"stored_sha256": "0"}, "do not match the sha256"),
])  # fmt: skip
def test_wrong_descriptions(hypernet, refused, tmp_path, change, words):
    save(hypernet, tmp_path / "own", AVERAGE)
    tensors, metadata = native.read(tmp_path / "own")
    native.write(tmp_path / "changed", tensors, metadata | change)
    refused((tmp_path / "changed").read_bytes(), words)


# ---- damaged and hostile files


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("place", ["state_dict", "tensor", "latent_avg", "opts", "all"])
def test_nothing_in_a_file_is_executed(hypernet, refused, tmp_path, place):
    attack = Call(os.system, f"touch {tmp_path}/marker")
    content = published(hypernet)
    if place == "tensor":
        content["state_dict"][f"{HEAD}.w1"] = attack
    elif place != "all":
        content[place] = attack
    refused(attack if place == "all" else content, f"{os.system.__module__}.system", "refused")
    pickle.loads(pickle.dumps(attack))
    assert (tmp_path / "marker").exists()  # it would have worked


def test_truncated_files(hypernet, decoder, refused, tmp_path):
    torch.save(published(hypernet, decoder), tmp_path / "zip")
    write(published(hypernet, decoder), tmp_path / "legacy")
    save(hypernet, tmp_path / "own", AVERAGE)
    for name in ("zip", "legacy", "own"):
        data = (tmp_path / name).read_bytes()
        for keep in (0, 1, 9, 300, len(data) // 3, len(data) - 100, len(data) - 1):
            refused(data[:keep])


@pytest.mark.parametrize(
    "content,words",
    [
        (b"a hypernetwork, honestly\n", "text file"),
        (pickle.dumps([1, 2]), "no hypernetwork"),
        (pickle.dumps({"state_dict": 3}), "other than a state dict"),
        (pickle.dumps({"state_dict": {f"{BLOCK}.0.linear.weight": 3}}), "lacks the tensor"),
        (pickle.dumps({"state_dict": {"hypernet.a\n\x1b[2J": 3}}), "without refinement blocks"),
    ],
)
def test_other_content(refused, content, words):
    refused(content, words)


def test_no_file_and_directory(tmp_path):
    with pytest.raises(CheckpointError, match="absent.pt does not exist"):
        load(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="is not a file"):
        load(tmp_path)
