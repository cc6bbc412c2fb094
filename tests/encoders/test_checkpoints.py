"""Files of encoders: published containers and own ones, written to disk; wrong, damaged and hostile ones."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from encoders.checkpoints import encode, faults_of, load, load_decoder, save
from encoders.e4e import Encoder4Editing, EncoderConfig, WEncoder
from stylegan2 import checkpoints
from stylegan2.checkpoints import native, rosinality
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2, StyleGAN2Config
from stylegan2.ops import setup_fir

TINY = EncoderConfig(num_ws=6, width=16, w_dim=8)  # rows of a generator of 16 pixels


def seeded(kind, config=TINY):
    torch.manual_seed(0)
    network = kind(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # unlike the defaults, so that a missing one shows
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return network.eval()


@pytest.fixture(scope="module")
def e4e():
    return seeded(Encoder4Editing)


@pytest.fixture(scope="module")
def w_encoder():
    return seeded(WEncoder)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(1)
    net = StyleGAN2(StyleGAN2Config(16, 8, 8, channel_base=128, channel_max=8, mapping_layers=2))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def decoder(generator):
    """The generator's tensors in the names that published files have for them."""
    state = {}
    for name, theirs in rosinality.generator_names(16, 2).items():
        tensor = generator.state()[name]
        lead = 1 if theirs.endswith("conv.weight") else 2 if theirs.startswith("noises.") else 0
        state[f"decoder.{theirs}"] = tensor.reshape([1] * lead + list(tensor.shape))
    return state | {"decoder.to_rgbs.0.upsample.kernel": setup_fir([1, 3, 3, 1]) * 4}


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1


AVERAGE = torch.arange(48.0).reshape(6, 8) / 10


def published(encoder, prefix="", **entries):
    state = {f"{prefix}encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    opts = {"encoder_type": type(encoder).__name__, "device": "cuda:0", "start_from_latent_avg": True, "lr": 1e-4}
    return {"state_dict": state, "latent_avg": AVERAGE, "opts": opts} | entries


def write(content, path):
    """In the layout before torch 1.6, which is quicker to read where there are many small tensors."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def equal(one, other):
    """The same network, counters of batch norm aside."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours if not name.endswith("num_batches_tracked")
    )


@pytest.fixture
def refused(tmp_path):
    """refused(content, *words): loading raises one line with the file's name and these words; bytes or an object."""

    def check(content, *words, **options):
        path = tmp_path / "file.pt"
        path.write_bytes(content) if isinstance(content, bytes) else write(content, path)
        with pytest.raises(CheckpointError) as caught:
            load(path, **options)
        message = str(caught.value)
        assert message.startswith(f"{path} ") and message.count(str(path)) == 1 and message.endswith(".")
        assert "\n" not in message and len(message) < 400 and caught.value.__cause__ is None
        for word in words:
            assert word in message, message
        assert not (tmp_path / "marker").exists()

    return check


# ---- sound files


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_published_e4e(e4e, generator, decoder, images, tmp_path, zipped):
    content = published(e4e)
    content["state_dict"] |= decoder
    torch.save(content, tmp_path / "e4e.pt", _use_new_zipfile_serialization=zipped)
    loaded = load(tmp_path / "e4e.pt", kind="e4e", num_ws=6)
    assert loaded.kind == "e4e" and loaded.encoder.config == TINY and loaded.path == tmp_path / "e4e.pt"
    assert equal(loaded.encoder, e4e) and torch.equal(loaded.latent_avg, AVERAGE)
    assert not any(p.requires_grad for p in loaded.encoder.parameters()) and not loaded.encoder.training
    ws = encode(loaded, images)
    with torch.no_grad():
        torch.testing.assert_close(ws, e4e(F.avg_pool2d(images, 2)) + AVERAGE)
    mine = load_decoder(loaded)
    assert checkpoints.source_sha256(mine) == checkpoints.source_sha256(generator) and mine.num_ws == 6
    assert mine.synthesis(ws).shape == (1, 3, 16, 16)


def test_published_w_encoder(w_encoder, decoder, images, tmp_path):
    content = published(w_encoder, latent_avg=AVERAGE[:1])
    content["state_dict"] |= decoder
    torch.save(content, tmp_path / "e4e.pt")  # the name does not matter
    loaded = load(tmp_path / "e4e.pt")
    assert loaded.kind == "w" and loaded.encoder.config == TINY and equal(loaded.encoder, w_encoder)
    ws = encode(loaded, images)
    assert ws.shape == (1, 6, 8) and torch.equal(ws, ws[:, :1].expand(-1, 6, -1))


def test_parallel_training_and_old_files(e4e, images, tmp_path):
    """A prefix `module.` on every name, and no counters in batch norm."""
    content = published(e4e, prefix="module.")
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if not k.endswith("num_batches_tracked")}
    content["opts"] = argparse.Namespace(**content["opts"])
    torch.save(content, tmp_path / "a")
    loaded = load(tmp_path / "a")
    assert equal(loaded.encoder, e4e) and not loaded.has_decoder
    assert loaded.encoder.body[0].res_layer[0].num_batches_tracked.item() == 0
    with pytest.raises(CheckpointError, match="holds an encoder without a decoder"):
        load_decoder(loaded)


def test_rows_of_a_w_encoder(w_encoder, decoder, tmp_path):
    def rows(num_ws=None, decoder=None, **entries):
        content = published(w_encoder, **entries)
        content["state_dict"] |= decoder or {}
        write(content, tmp_path / "w")
        return load(tmp_path / "w", num_ws=num_ws).encoder.config.num_ws

    one = AVERAGE[0]
    assert rows() == 6  # from latent_avg
    assert rows(latent_avg=one, decoder=decoder, opts={"output_size": 64}) == 6  # from the decoder
    assert rows(latent_avg=one, opts={"output_size": 64}) == 10
    assert rows(latent_avg=one, opts={"stylegan_size": 256}) == 14
    assert rows(latent_avg=one, opts=None) == rows(latent_avg=one, opts={"output_size": "big"}) == 18
    assert rows(num_ws=14, latent_avg=one) == 14


def test_averages(e4e, images, tmp_path):
    def average(**entries):
        write(published(e4e, **entries), tmp_path / "e4e")
        return load(tmp_path / "e4e")

    for stored in (AVERAGE[0], AVERAGE[:1]):
        assert torch.equal(average(latent_avg=stored).latent_avg, AVERAGE[:1].repeat(6, 1))
    assert torch.equal(average(opts={"start_from_latent_avg": False}).latent_avg, torch.zeros(6, 8))
    without = average(latent_avg=None)
    assert without.latent_avg is None
    with pytest.raises(CheckpointError, match="stores no average w"):
        encode(without, images)
    given = encode(without, images, w_avg=torch.full((8,), 2.0))
    torch.testing.assert_close(given, encode(average(latent_avg=torch.full((8,), 2.0)), images))
    torch.testing.assert_close(encode(average(), images, w_avg=torch.full((8,), 2.0)), encode(average(), images))


@pytest.mark.parametrize("kind", ["e4e", "w_encoder"])
def test_own_files(kind, images, tmp_path, request):
    network = request.getfixturevalue(kind)
    save(network, tmp_path / "own", AVERAGE)
    loaded = load(tmp_path / "own")
    assert type(loaded.encoder) is type(network) and loaded.encoder.config == TINY and equal(loaded.encoder, network)
    assert torch.equal(loaded.latent_avg, AVERAGE) and not loaded.has_decoder
    save(loaded.encoder, tmp_path / "half", loaded.latent_avg, torch.float16)
    half = load(tmp_path / "half")
    assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "own").stat().st_size
    assert next(half.encoder.parameters()).dtype == torch.float32
    torch.testing.assert_close(encode(half, images), encode(loaded, images), atol=0.05, rtol=0.05)
    descriptions = [native.read(tmp_path / name)[1] for name in ("own", "half")]
    assert descriptions[0]["sha256"] == descriptions[1]["sha256"] != descriptions[1]["stored_sha256"]
    save(network, tmp_path / "again", AVERAGE)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "own").read_bytes()
    save(network, tmp_path / "bare")
    assert load(tmp_path / "bare").latent_avg is None


def test_what_cannot_be_saved(e4e, tmp_path):
    with pytest.raises(ValueError, match="latent_avg must be"):
        save(e4e, tmp_path / "x", AVERAGE[:2])
    with pytest.raises(ValueError, match="stored as"):
        save(e4e, tmp_path / "x", AVERAGE, torch.float64)
    with pytest.raises(CheckpointError, match="'latent_avg' does not fit float16"):
        save(e4e, tmp_path / "x", AVERAGE * 1e6, torch.float16)
    assert not (tmp_path / "x").exists()


def test_encode_wants_square_pictures(e4e, tmp_path):
    write(published(e4e), tmp_path / "e4e")
    loaded = load(tmp_path / "e4e")
    for shape in ((3, 256, 256), (1, 1, 256, 256), (1, 3, 192, 256)):
        with pytest.raises(ValueError, match="images must be"):
            encode(loaded, torch.zeros(shape))


# ---- the wrong file


def test_kinds_are_told_from_the_tensors(e4e, w_encoder, refused):
    claims = {"encoder_type": "WEncoder"}
    refused(published(e4e, opts=claims), "holds an e4e encoder", "where a W-encoder", kind="w")
    refused(published(w_encoder), "holds a W-encoder", "where an e4e encoder", kind="e4e")
    refused(published(e4e), "an encoder for 6 rows, not 18", num_ws=18)
    refused(published(e4e, opts={"encoder_type": "GradualStyleEncoder"}), "an encoder of pSp")
    refused({"state_dict": {"encoder.conv1.weight": torch.ones(1)}}, "of a kind not known", "'conv1.weight'")


def test_generators_are_no_encoders(generator, decoder, refused, tmp_path):
    refused({"state_dict": decoder}, "no 'encoder' in its state dict")
    refused({"g_ema": {name.removeprefix("decoder."): t for name, t in decoder.items()}}, "no 'state_dict'")
    checkpoints.save(generator, tmp_path / "g")
    refused((tmp_path / "g").read_bytes(), "family 'stylegan2-16'", "no encoder")
    save_file({"a": torch.ones(2)}, tmp_path / "a")
    refused((tmp_path / "a").read_bytes(), "not an encoder saved by this project")


def test_an_encoder_is_no_generator(e4e, tmp_path):
    save(e4e, tmp_path / "own", AVERAGE)
    with pytest.raises(CheckpointError, match="family 'encoder-e4e'"):
        checkpoints.load(tmp_path / "own")


def test_wrong_tensors_are_named(e4e, refused):
    name = "encoder.body.3.res_layer.1.weight"

    def changed(**entries):
        content = published(e4e)
        for key, value in entries.items():
            key = key.replace("__", ".")
            if value is None:
                del content["state_dict"][key]
            else:
                content["state_dict"][key] = value
        return content

    state = published(e4e)["state_dict"]
    key = name.replace(".", "__")
    refused(changed(**{key: None}), f"lacks the tensor {name!r}")
    refused(changed(encoder__input_layer__1__running_var=None), "lacks", "'encoder.input_layer.1.running_var'")
    refused(changed(encoder__input_layer__0__weight=None), "lacks", "'encoder.input_layer.0.weight'")
    refused(changed(encoder__styles__0__linear__weight=None), "lacks", "'encoder.styles.0.linear.weight'")
    refused(changed(**{key: state[name][:-1]}), name, "(31, 16, 3, 3)", "(32, 16, 3, 3)")
    refused(changed(**{key: state[name] * torch.nan}), name, "not finite")
    refused(changed(**{key: state[name].int()}), name, "int32")
    refused(changed(**{key: "x"}), name, "other than a tensor")
    refused(changed(encoder__input_layer__0__weight=torch.ones(16, 6, 3, 3)), "(16, 6, 3, 3)", "(16, 3, 3, 3)")
    refused(changed(encoder__input_layer__0__weight=torch.ones(17, 3, 3, 3)), "multiple of 16")
    refused(changed(encoder__extra=torch.ones(1)), "'encoder.extra' too many")
    refused(changed(encoder__a=torch.ones(1), encoder__b=torch.ones(1)), "'encoder.a' and 1 more tensors too many")
    refused(changed(encoder__linear__weight=torch.ones(8, 128)), "'encoder.linear.weight' too many")
    refused(changed(**{f"encoder__styles__{6}__linear__bias": torch.ones(8)}), "lacks", "'encoder.styles.6.")
    refused(changed(encoder__styles__9999__x=torch.ones(8)), "10000 rows")


def test_wrong_averages(e4e, refused):
    refused(published(e4e, latent_avg=torch.ones(5, 8)), "'latent_avg'", "(5, 8)", "(6, 8)")
    refused(published(e4e, latent_avg=torch.ones(7)), "'latent_avg'", "(7,)")
    refused(published(e4e, latent_avg=AVERAGE / 0), "not finite", "'latent_avg'")
    refused(published(e4e, latent_avg="mean"), "other than a tensor", "'latent_avg'")


@pytest.mark.parametrize("change,words", [
    ({"format": "other"}, "not an encoder saved"), ({"family": "encoder-psp"}, "'psp'"), ({"version": "2"}, "'2'"),
    ({"config": "{"}, "not understood"), ({"config": "[]"}, "whole numbers"), ({"config": '{"num_ws": true}'}, "whole"),
    ({"config": '{"x": 1}'}, "not understood"), ({"config": '{"width": 17}'}, "multiple of 16"),
    ({"config": "[" * 9999}, "not understood"), ({"config": '{"num_ws": 6, "width": 16}'}, "latent_avg"),
    ({"stored_sha256": "0"}, "do not match the sha256"),
])  # fmt: skip
def test_wrong_descriptions(w_encoder, refused, tmp_path, change, words):
    save(w_encoder, tmp_path / "own", AVERAGE)
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
def test_nothing_in_a_file_is_executed(w_encoder, refused, tmp_path, place):
    attack = Call(os.system, f"touch {tmp_path}/marker")
    content = published(w_encoder)
    if place == "tensor":
        content["state_dict"]["encoder.linear.bias"] = attack
    elif place != "all":
        content[place] = attack
    attacked = attack if place == "all" else content
    refused(attacked, f"{os.system.__module__}.system", "refused")
    pickle.loads(pickle.dumps(attack))
    assert (tmp_path / "marker").exists()  # it would have worked
    (tmp_path / "marker").unlink()
    refused(pickle.dumps(Call(eval, f"open({str(tmp_path / 'marker')!r}, 'w')")), "eval", "refused")


def test_truncated_files(w_encoder, refused, tmp_path):
    torch.save(published(w_encoder), tmp_path / "zip")
    torch.save(published(w_encoder), tmp_path / "legacy", _use_new_zipfile_serialization=False)
    save(w_encoder, tmp_path / "own", AVERAGE)
    for name in ("zip", "legacy", "own"):
        data = (tmp_path / name).read_bytes()
        for keep in (0, 1, 9, 300, len(data) // 3, len(data) - 100, len(data) - 1):
            refused(data[:keep])


@pytest.mark.parametrize(
    "content,words",
    [
        (b"an encoder, honestly\n", "text file"),
        (b"<html>404</html>", "web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
        (pickle.dumps([1, 2]), "no encoder"),
        (pickle.dumps({"state_dict": 3}), "other than a state dict"),
        (pickle.dumps({"state_dict": {}}), "no 'encoder'"),
        (pickle.dumps({"state_dict": {"encoder.styles.0.linear.weight": 3}}), "lacks the tensor"),
        (pickle.dumps({"state_dict": {"encoder.a\n\x1b[2J": 3}}), "not known"),
    ],
)
def test_other_content(refused, content, words):
    refused(content, words)


def test_names_cannot_write_on_the_terminal():
    with pytest.raises(CheckpointError, match=r"^a\.pt holds \?\?\[2Jx\.$"), faults_of(Path("a.pt")):
        raise CheckpointError("holds \n\x1b[2Jx.")


def test_no_file_and_directory(tmp_path):
    with pytest.raises(CheckpointError, match="absent.pt does not exist"):
        load(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="is not a file"):
        load(tmp_path)
