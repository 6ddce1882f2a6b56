"""The PEP 517 backend: one wheel with the native binary, the extension and the Python package.

maturin builds one crate for each wheel; the binary would have to be built and laid beside it by something
that runs before, which `pip install .` has no place for. Putting three things into a zip file needs less
than that, and no package from the network.
"""

import base64
import csv
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CRATES = ("trivet", "trivet-python")
SOURCES = ("crates", "python", "scripts")
SOURCE_FILES = (
    "Cargo.lock", "Cargo.toml", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "clippy.toml",
    "pyproject.toml", "rustfmt.toml",
)  # fmt: skip
ABI = "cp310-abi3"

Settings = dict[str, Any] | None


def cargo_toml(key: str) -> str:
    found = re.search(rf'^{key} = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert found, f"Cargo.toml has no {key}"
    return found[1]


def version() -> str:
    package = (ROOT / "python/trivet/__init__.py").read_text()
    written = cargo_toml("version")
    if f'__version__ = "{written}"' not in package:
        raise SystemExit(f"python/trivet/__init__.py does not say version {written} as Cargo.toml does")
    return written


def project(key: str) -> list[str]:
    """A value or a list of values of pyproject.toml (there is no tomllib in Python 3.10)."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(rf"^{key} = (\[.*?\]|\".*?\")", text, re.MULTILINE | re.DOTALL)
    assert found, f"pyproject.toml has no {key}"
    return re.findall(r'"([^"]*)"', found[1])


def missing() -> str | None:
    """What stands in the way of a build, in one line."""
    if sys.platform != "linux":
        return "trivet runs on Linux only"
    if platform.libc_ver()[0] != "glibc":
        return "this Python is not built for glibc, which the extension needs"
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "the extension needs CPython with the GIL (no PyPy, no free-threaded build)"
    wanted = cargo_toml("rust-version")
    if shutil.which("cargo") is None:
        return f"`cargo` is missing: install Rust {wanted} or newer (https://rustup.rs)"
    said = subprocess.run(["cargo", "--version"], capture_output=True, text=True, cwd=ROOT).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < tuple(map(int, wanted.split("."))):
        return f"`cargo` is too old: Rust {wanted} or newer is needed, found {said.strip() or 'none'}"
    if shutil.which("cc") is None:
        return "a C compiler for linking is missing: `apt install build-essential`"
    return None


def release() -> Path:
    """Builds the binary and the extension; returns the folder that holds both."""
    lacking = missing()
    if lacking:
        raise SystemExit(f"trivet cannot be built here: {lacking}")
    command = ["cargo", "build", "--release", "--locked"]
    for crate in CRATES:
        command += ["--package", crate]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise SystemExit("trivet cannot be built here: cargo failed, its messages stand above")
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    return ROOT / target / "release"


def stripped(file: Path, scratch: Path) -> bytes:
    """The file without its debug sections, which are four fifths of it."""
    strip = shutil.which("strip")
    if strip is None:
        return file.read_bytes()
    scratch.mkdir(parents=True, exist_ok=True)
    small = scratch / (file.name + ".stripped")
    subprocess.run([strip, "--strip-debug", "-o", small, file], check=True)
    return small.read_bytes()


def metadata() -> str:
    lines = [
        "Metadata-Version: 2.4",
        "Name: trivet",
        f"Version: {version()}",
        f"Summary: {project('description')[0]}",
        f"Requires-Python: {project('requires-python')[0]}",
        f"License-Expression: {project('license')[0]}",
        *(f"License-File: {name}" for name in project("license-files")),
        f"Keywords: {','.join(project('keywords'))}",
        *(f"Classifier: {name}" for name in project("classifiers")),
        "Description-Content-Type: text/markdown",
        "",
        (ROOT / "README.md").read_text(),
    ]
    return "\n".join(lines)


def wheel_tag() -> str:
    # Plain `linux`, not `manylinux`: what is built here needs the glibc of this machine.
    return f"{ABI}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def info_files() -> dict[str, bytes]:
    wheel = f"Wheel-Version: 1.0\nGenerator: trivet_build\nRoot-Is-Purelib: false\nTag: {wheel_tag()}\n"
    files = {"METADATA": metadata().encode(), "WHEEL": wheel.encode()}
    for name in project("license-files"):
        files[f"licenses/{name}"] = (ROOT / name).read_bytes()
    return files


def package_files() -> dict[str, bytes]:
    found = sorted((ROOT / "python/trivet").rglob("*"))
    wanted = [file for file in found if file.suffix in (".py", ".pyi") or file.name == "py.typed"]
    return {str(file.relative_to(ROOT / "python")): file.read_bytes() for file in wanted}


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    built = release()
    base = f"trivet-{version()}"
    scratch = built / "wheel"
    files = package_files()
    files["trivet/worker/trivet_native.abi3.so"] = stripped(built / "libtrivet_native.so", scratch)
    files[f"{base}.data/scripts/trivet"] = stripped(built / "trivet", scratch)
    files |= {f"{base}.dist-info/{name}": content for name, content in info_files().items()}

    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    name = f"{base}-{wheel_tag()}.whl"
    with zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.writerow([path, f"sha256={digest}", len(content)])
            native = path.endswith((".so", "/scripts/trivet"))
            archive.writestr(zip_entry(path, 0o755 if native else 0o644), content)
        rows.writerow([f"{base}.dist-info/RECORD", "", ""])
        archive.writestr(zip_entry(f"{base}.dist-info/RECORD", 0o644), record.getvalue())
    return name


def zip_entry(path: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path)  # dated 1980: the same input gives the same wheel
    entry.external_attr = (0o100000 | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    lacking = missing()
    if lacking:
        raise SystemExit(f"trivet cannot be built here: {lacking}")
    folder = Path(metadata_directory, f"trivet-{version()}.dist-info")
    for name, content in info_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder.name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    base = f"trivet-{version()}"
    unwanted = {"__pycache__", "target"}

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if unwanted & set(Path(entry.name).parts) or entry.name.endswith(".so") else entry

    with tarfile.open(Path(sdist_directory, f"{base}.tar.gz"), "w:gz") as archive:
        for name in (*SOURCES, *SOURCE_FILES):
            archive.add(ROOT / name, f"{base}/{name}", filter=wanted)
        info = tarfile.TarInfo(f"{base}/PKG-INFO")
        content = metadata().encode()
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return f"{base}.tar.gz"
