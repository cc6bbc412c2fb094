"""The packaging tells one story: version, requirements, pins, licence."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def names(requirements: str) -> set[str]:
    lines = (line.strip() for line in requirements.splitlines())
    return {re.split(r"[<>=!~\[; ]", line)[0].lower().replace("_", "-") for line in lines if line}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_recipes_carry_the_version_of_the_package():
    from editing.types import SOFTWARE

    assert f"wplus {setup()['metadata']['version']}" == SOFTWARE


def test_everything_that_is_required_is_pinned():
    options, extras = setup()["options"], setup()["options.extras_require"]
    tested = names(options["install_requires"]) | names(extras["dev"]) | names(extras["train"])
    assert tested <= set(pins())


def test_the_pins_are_what_is_installed():
    """Only where the pins were used: another set of versions is fine, but then it is not what was tested."""
    from importlib.metadata import PackageNotFoundError, version

    import pytest

    differing = {}
    for name, pin in pins().items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
        if found != pin:
            differing[name] = (pin, found)
    if differing:
        pytest.skip(f"other versions are installed: {differing}")


def test_every_package_is_shipped_with_its_data():
    include = setup()["options.packages.find"]["include"].split()
    assert include == ["stylegan2*", "encoders*", "hyperstyle*", "editing*", "ui*"]
    for package in include:
        assert (ROOT / package.rstrip("*") / "__init__.py").exists()
    shipped = setup()["options.package_data"]
    for data in (file for kind in ("safetensors", "json") for file in ROOT.glob(f"*/**/*.{kind}")):
        if data.relative_to(ROOT).parts[0] in {name.rstrip("*") for name in include}:
            owners = [p for p in shipped if (ROOT / p.replace(".", "/")) in data.parents]
            assert any(data.match(pattern) for p in owners for pattern in shipped[p].replace(" ", "").split(",")), data


def test_the_licence_of_the_code_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
