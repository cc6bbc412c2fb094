"""Torch7's files: what a writer made for these tests writes is read back; damaged and hostile files are one sentence.

No file of Torch7 itself is at hand.  The writer follows the format's description and Torch7's habits: indices that
stand for objects written before, all parameters in one storage (`getParameters`), CUDA tensors, empty buffers,
functions.
"""

import struct

import numpy as np
import pytest
import torch

from editing.translation import checkpoints, torch7
from editing.translation.networks import ReedDiscriminator, ReedGenerator
from stylegan2.checkpoints.values import StoredTensor
from stylegan2.errors import CheckpointError
from tests.editing.translation.test_checkpoints import seeded


class Made:
    """An instance to be written: its class, its fields, its version (None: the name alone)."""

    def __init__(self, kind, fields, version=1):
        self.kind, self.fields, self.version = kind, fields, version


class View:
    """A tensor to be written, as a part of a storage that others share."""

    def __init__(self, storage, offset, shape, stride, kind="Float"):
        self.storage, self.offset, self.shape, self.stride, self.kind = storage, offset, shape, stride, kind


class Function:
    pass


class Writer:
    def __init__(self):
        self.out, self.known, self.kept = bytearray(), {}, []

    def put(self, code, *values):
        self.out += struct.pack(f"<{code}", *values)

    def text(self, value):
        self.put("i", len(value.encode()))
        self.out += value.encode()

    def index(self, thing):
        """Whether it was new; writes its index."""
        new = id(thing) not in self.known
        self.kept.append(thing)  # so that no other gets its id
        self.put("i", self.known.setdefault(id(thing), len(self.known) + 1))
        return new

    def instance(self, kind, version=1):
        if version is not None:
            self.text(f"V {version}")
        self.text(kind)

    def write(self, thing):
        if thing is None:
            self.put("i", 0)
        elif isinstance(thing, bool):
            self.put("ii", 5, thing)
        elif isinstance(thing, int | float):
            self.put("id", 1, thing)
        elif isinstance(thing, str):
            self.put("i", 2)
            self.text(thing)
        elif isinstance(thing, dict):
            self.put("i", 3)
            if self.index(thing):
                self.put("i", len(thing))
                for key, value in thing.items():
                    self.write(key)
                    self.write(value)
        elif isinstance(thing, Function):
            self.put("i", 8)
            if self.index(thing):
                self.text("\x1bLJ os.execute('touch pwned')")
                self.write({1: {"name": "_ENV", "value": "x"}})
        elif isinstance(thing, np.ndarray):  # a storage
            self.put("i", 4)
            if self.index(thing):
                name = {"f": "Float", "d": "Double", "l": "Long", "B": "Byte", "i": "Int", "e": "CudaHalf"}
                self.instance(f"torch.{name[thing.dtype.char]}Storage")
                self.put("q", len(thing))
                self.out += thing.tobytes()
        elif isinstance(thing, View):
            self.put("i", 4)
            if self.index(thing):
                self.instance(f"torch.{thing.kind}Tensor")
                axes = len(thing.shape)
                self.put(f"i{axes}q{axes}qq", axes, *thing.shape, *thing.stride, thing.offset + 1)
                self.write(thing.storage)
        else:
            self.put("i", 4)
            if self.index(thing):
                self.instance(thing.kind, thing.version)
                self.write(thing.fields)
        return self


def listed(*things):
    return dict(enumerate(things, 1))


def whole(array, kind="Float"):
    array = np.ascontiguousarray(array)
    stride = [s // array.itemsize for s in array.strides]
    return View(array.reshape(-1), 0, array.shape, stride, kind)


EMPTY = View(None, 0, (), ())
TITLES = {kind: kind.__name__ for kind in (torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.Tanh, torch.nn.Linear)} | {
    torch.nn.Conv2d: "SpatialConvolution", torch.nn.ConvTranspose2d: "SpatialFullConvolution",
    torch.nn.BatchNorm2d: "SpatialBatchNormalization", torch.nn.BatchNorm1d: "BatchNormalization",
}  # fmt: skip


def as_torch7(network, package="nn", old=False):
    """A network of Reed et al. as its authors' scripts build it, all parameters in one storage.  old: with the inverse
    deviations of early batch norms."""
    flat, spans = [], {}
    for name, parameter in network.named_parameters():
        spans[name] = (sum(map(len, flat)), parameter.shape)
        flat.append(parameter.detach().numpy().reshape(-1))
    flat = np.concatenate(flat)

    def view(name):
        start, shape = spans[name]
        return View(flat, start, shape, torch.empty(shape, device="meta").stride(), "Cuda")

    def layer(module, name):
        fields = {"train": False, "_type": "torch.CudaTensor", "output": EMPTY, "gradInput": EMPTY}
        if hasattr(module, "weight"):
            fields |= {"weight": view(f"{name}.weight"), "bias": view(f"{name}.bias"), "gradWeight": EMPTY}
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            fields |= {"dW": module.stride[0], "dH": module.stride[0], "kW": module.kernel_size[0]}
            fields |= {"padW": module.padding[0], "padH": module.padding[0], "reset": Function()}
        if hasattr(module, "running_mean"):
            fields |= {"running_mean": whole(module.running_mean.numpy()), "eps": 1e-5}
            if old:
                fields["running_std"] = whole((module.running_var + 1e-5).rsqrt().numpy())
            else:
                fields["running_var"] = whole(module.running_var.numpy())
        return Made(f"{package}.{TITLES[type(module)]}", fields)

    def parts(sequence, name):
        found = []
        for place, module in enumerate(sequence):
            if hasattr(module, "branch"):
                both = listed(plain("Identity"), chain(parts(module.branch, f"{name}.{place}.branch")))
                found += [Made(f"{package}.ConcatTable", {"modules": both}), plain("CAddTable")]
            else:
                found.append(layer(module, f"{name}.{place}"))
        return found

    def plain(kind):
        return Made(f"nn.{kind}", {"output": EMPTY})

    def chain(layers):
        return Made("nn.Sequential", {"modules": listed(*layers), "train": False})

    def side_by_side(*layers):
        return Made("nn.ParallelTable", {"modules": listed(*layers)})

    text = parts(network.text, "text")
    if isinstance(network, ReedGenerator):
        first = side_by_side(plain("Identity"), chain(text))
        return chain([first, plain("JoinTable"), *parts(network.draw, "draw")])
    text += [plain("Replicate"), plain("Replicate")]
    first = side_by_side(chain(parts(network.look, "look")), chain(text))
    return chain([first, plain("JoinTable"), *parts(network.judge, "judge"), plain("Sigmoid"), plain("View")])


def written(path, thing):
    path.write_bytes(Writer().write(thing).out)
    return path


# ---- objects


def test_objects_are_read_as_they_were_written(tmp_path):
    numbers = np.arange(12, dtype=np.float64)
    shared = View(numbers, 2, (2, 3), (1, 2), "Double")
    table = {"a": 1.5, "b": "text ü", 3: True, 4: False, "tensor": shared, "again": shared, "nothing": EMPTY}
    table |= {"itself": table, "function": Function(), "old": Made("nn.Old", {"x": 1}, None)}
    for kind, dtype in (("Long", np.int64), ("Byte", np.uint8), ("Int", np.int32), ("CudaHalf", np.float16)):
        table[kind] = whole(np.arange(6, dtype=dtype).reshape(2, 3), kind)
    table["after"] = "the end"
    found = torch7.load(written(tmp_path / "a.t7", table))
    assert (found["a"], found["b"], found[3.0], found[4.0]) == (1.5, "text ü", True, False)
    expected = torch.tensor([[2.0, 4, 6], [3, 5, 7]], dtype=torch.float64)
    assert torch.equal(found["tensor"].load(), expected) and found["again"] is found["tensor"]
    assert found["nothing"] is None and found["function"] is None and found["itself"] is found
    assert found["old"].kind == "nn.Old" and found["old"].fields == {"x": 1.0}
    for kind in ("Long", "Byte", "Int", "CudaHalf"):
        assert found[kind].load().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["after"] == "the end"  # whatever was passed over, was passed over whole


def test_a_tensor_takes_no_more_memory_than_it_has(tmp_path):
    flat = np.zeros(1 << 20, np.float32)
    found = torch7.load(written(tmp_path / "a.t7", View(flat, 5, (2, 2), (2, 1))))
    assert isinstance(found, StoredTensor) and found.storage.count == 4 and found.load().shape == (2, 2)


def test_plain_functions_are_passed_over(tmp_path):
    writer = Writer()
    writer.put("iii", 3, 99, 2)  # a table of two
    writer.write("f")
    writer.put("i", 6)
    writer.text("bytecode")
    writer.write({1: "upvalue"})
    writer.write("g").write(7)
    (tmp_path / "a.t7").write_bytes(writer.out)
    assert torch7.load(tmp_path / "a.t7") == {"f": None, "g": 7.0}


# ---- networks

SMALL = {
    "main_cls_int": lambda: ReedGenerator(4, 20, 6, 5),
    "for COCO": lambda: ReedGenerator(4, 20, 6, 5, large=True),
}
JUDGES = {
    "main_cls_int": lambda: ReedDiscriminator(4, 20, 6),
    "main_cls": lambda: ReedDiscriminator(4, 20, 6, plain=True),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("package", ["nn", "cudnn"])
@pytest.mark.parametrize("name", SMALL)
def test_a_generators_file_draws_the_same(tmp_path, name, package, old):
    network = seeded(SMALL[name])
    path = written(tmp_path / "cub_600_net_G.t7", as_torch7(network, package, old))
    found = checkpoints.load_generator(path)
    z, text = torch.randn(3, 5), torch.randn(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(found(z, text), network(z, text), rtol=1e-4, atol=1e-5 if old else 1e-6)
    assert found.draw[0].weight.abs().max() > 0 and not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize("name", JUDGES)
def test_a_discriminators_file_judges_the_same(tmp_path, name):
    network = seeded(JUDGES[name])
    found = checkpoints.load(written(tmp_path / "cub_600_net_D.t7", as_torch7(network)))
    x, text = torch.randn(3, 3, 64, 64), torch.randn(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(found(x, text), network(x, text))
    with pytest.raises(CheckpointError, match="ReedDiscriminator, which draws nothing"):
        checkpoints.load_generator(tmp_path / "cub_600_net_D.t7")


def test_the_published_size_is_read(tmp_path):
    network = seeded(ReedGenerator)
    found = checkpoints.load_generator(written(tmp_path / "G.t7", as_torch7(network)))
    assert (found.width, found.text_dim, found.nz) == (128, 1024, 100)
    z, text = torch.randn(1, 100), torch.randn(1, 1024)
    with torch.no_grad():
        torch.testing.assert_close(found(z, text), network(z, text))


def changed(change):
    root = as_torch7(seeded(SMALL["main_cls_int"]))
    layers = root.fields["modules"]
    return change(root, layers) or root


def of(kind, layers):
    return next(layer for layer in layers.values() if layer.kind == f"nn.{kind}")


def loop(root, layers):
    layers[4] = root


def lowered(root, layers):
    layers[len(layers)] = Made("nn.Sigmoid", {})
    return root


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda root, layers: {"weight": 1}, "something else in the place of a layer"),
        (lambda root, layers: Made("nn.Sequential", {"modules": {}}), "no Linear"),
        (lambda root, layers: Made("nn.gModule", {"modules": listed(root)}), "no Linear"),
        (lambda root, layers: layers.pop(len(layers)) and None, "layers, not"),
        (lambda root, layers: layers.update({2: Made("nn.CAddTable", {})}), "is 'CAddTable', not 'JoinTable'"),
        (lambda root, layers: of("SpatialFullConvolution", layers).fields.update(dW=2), "other steps and margins"),
        (lambda root, layers: of("SpatialFullConvolution", layers).fields.pop("weight") and None, "no Spatial"),
        (lambda root, layers: of("SpatialBatchNormalization", layers).fields.pop("running_var") and None, "'running_"),
        (lambda root, layers: layers.update({2: 5.0}), "something else"),
        (loop, "more layers"),
        (lowered, "no SpatialConvolution|is '"),
        (
            lambda root, layers: of("SpatialFullConvolution", layers).fields.update(
                weight=whole(np.zeros((4, 32, 4, 4), np.float32))
            ),
            "takes no noise",
        ),
        (
            lambda root, layers: of("SpatialFullConvolution", layers).fields.update(
                weight=View(np.zeros(1, np.float32), 0, (1 << 40, 32, 4, 4), (0, 0, 0, 0))
            ),
            "shape",
        ),
        (
            lambda root, layers: of("SpatialBatchNormalization", layers).fields.update(
                running_mean=whole(np.full(32, np.nan, np.float32))
            ),
            "not finite",
        ),
        (
            lambda root, layers: of("SpatialBatchNormalization", layers).fields.update(
                running_mean=whole(np.zeros(31, np.float32))
            ),
            "shape",
        ),
    ],
)
def test_what_is_no_network_of_theirs_is_one_sentence(tmp_path, change, words):
    path = written(tmp_path / "G.t7", changed(change))
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(path)
    assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)


# ---- damaged and hostile files


def raw(*parts):
    return b"".join(struct.pack(f"<{code}", *values) for code, *values in parts)


def named(kind):
    return struct.pack("<i", len(kind)) + kind.encode()


HOSTILE = {
    "empty": b"",
    "text": b"hello, this is not a network",
    "a type that is unknown": raw(("i", 77)),
    "a string longer than the file": raw(("ii", 2, 1 << 30)),
    "a string of negative length": raw(("ii", 2, -5)),
    "a table of two billion": raw(("iii", 3, 1, 2**31 - 1)),
    "tables in tables": raw(("iii", 3, 1, 1)) + b"".join(raw(("idiii", 1, 1.0, 3, n, 1)) for n in range(2, 3000)),
    "a storage larger than the file": raw(("ii", 4, 1))
    + named("V 1")
    + named("torch.FloatStorage")
    + raw(("q", 1 << 60)),
    "a storage of negative size": raw(("ii", 4, 1)) + named("V 1") + named("torch.FloatStorage") + raw(("q", -1)),
    "a tensor of a billion axes": raw(("ii", 4, 1)) + named("V 1") + named("torch.FloatTensor") + raw(("i", 1 << 30)),
    "a function larger than the file": raw(("iii", 8, 1, 1 << 30)),
    "a version that is a long number": raw(("ii", 4, 1)) + named("V " + "9" * 5000) + named("nn.X") + raw(("i", 0)),
    "a name that is no text": raw(("ii", 4, 1)) + struct.pack("<i", 2) + b"\xff\xfe" + raw(("i", 0)),
    "nothing": raw(("i", 0)),
}


def outside(offset, shape, stride):
    return bytes(Writer().write(View(np.zeros(4, np.float32), offset, shape, stride)).out)


HOSTILE |= {
    "a tensor beyond its storage": outside(2, (3,), (1,)),
    "a tensor before its storage": outside(-3, (1,), (1,)),
    "a tensor that goes backwards": outside(3, (4,), (-1,)),
    "a tensor of negative shape": outside(0, (-4,), (1,)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_sentence(tmp_path, name):
    path = tmp_path / "G.t7"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(path)
    assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)


def test_a_file_of_very_many_objects_is_given_up(tmp_path, monkeypatch):
    path = written(tmp_path / "a.t7", dict.fromkeys(map(str, range(100))))
    assert len(torch7.load(path)) == 100
    monkeypatch.setattr(torch7, "MOST_OBJECTS", 200)  # a table, and 200 in it
    with pytest.raises(CheckpointError, match="more objects"):
        torch7.load(path)


def test_a_small_storage_is_not_blown_up(tmp_path):
    root = as_torch7(seeded(SMALL["main_cls_int"]))
    flat = View(np.zeros(1, np.float32), 0, (11, 1 << 14, 4, 4), (0, 0, 0, 0))
    of("SpatialFullConvolution", root.fields["modules"]).fields["weight"] = flat
    with pytest.raises(CheckpointError):
        checkpoints.load(written(tmp_path / "G.t7", root))


def test_cut_and_flipped_files_are_one_sentence_or_the_network(tmp_path):
    content = bytes(Writer().write(as_torch7(seeded(SMALL["main_cls_int"]))).out)
    path, rng = tmp_path / "G.t7", np.random.default_rng(0)
    for number in range(60):
        changed = bytearray(content)
        if number < 20:
            changed = changed[: int(rng.integers(len(content)))]
        else:
            for place in rng.integers(min(len(content), 6000), size=3):
                changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            checkpoints.load(path)
        except CheckpointError as error:
            assert str(error).count(str(path)) == 1 and "\n" not in str(error)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "missing.t7", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            torch7.load(path)
