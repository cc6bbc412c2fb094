"""A wheel made on the spot, with records for what is inside: `zoo` can be tested without a network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from stylegan2.zoo_records import Member, Record, Wheel

NAME, VERSION = "wplus-toy-weights", "1.0"
CONTENT = {"toy/one.bin": b"one" * 1000, "toy/two.xml": b"<two/>", "toy/three.bin": bytes(range(256)) * 64}


def build(folder: Path, content: dict[str, bytes] | None = None) -> Path:
    """Write a valid wheel with `content` into `folder`."""
    content = CONTENT if content is None else content
    info = f"{NAME.replace('-', '_')}-{VERSION}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{NAME.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in content.items():
            wheel.writestr(zipfile.ZipInfo(name), data)
        wheel.writestr(
            zipfile.ZipInfo(f"{info}/METADATA"), f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n"
        )
        tags = "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), tags)
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    return archive


def member(path: str, content: dict[str, bytes] = CONTENT) -> Member:
    return Member(path, hashlib.sha256(content[path]).hexdigest(), len(content[path]))


def records(archive: Path) -> dict[str, Record]:
    """'single': one file; 'folder': two files in a folder; 'optional': not fetched by default."""
    wheel = Wheel(NAME, VERSION, hashlib.sha256(archive.read_bytes()).hexdigest(), archive.stat().st_size)
    made = (
        Record("single", "one file", wheel, (member("toy/one.bin"),), "single.bin", "CC0-1.0", "made here"),
        Record("folder", "two", wheel, (member("toy/two.xml"), member("toy/three.bin")), "folder", "CC0-1.0", "here"),
        Record("optional", "x", wheel, (member("toy/two.xml"),), "two.xml", "CC0-1.0", "here", default=False),
    )
    return {record.name: record for record in made}
