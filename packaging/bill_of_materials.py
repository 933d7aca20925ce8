#!/usr/bin/env python3
"""What a static binary is made of: a CycloneDX document and the licence texts of its parts, the same for the same commit.

    packaging/bill_of_materials.py TARGET FOLDER     writes FOLDER/sbom.cdx.json and FOLDER/THIRD-PARTY-LICENSES
    packaging/bill_of_materials.py --check FOLDER    checks both (needs requirements-check.txt)

Asks cargo and the sources that cargo has fetched; nothing goes over the network.
"""

import datetime
import hashlib
import html
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPEC = "1.6"
# How large a licence file may be; what is larger is no licence text.
TEXT_LIMIT_BYTES = 128 * 1024
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)([-_.].*)?", re.IGNORECASE)
TEXT_SUFFIXES = {"", ".md", ".txt", ".rst"}
MIT = """\
MIT License

{copyright}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def ask(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def expression(package):
    """The licence in the words of SPDX. Old manifests write a slash for "or"."""
    if not package["license"]:
        raise SystemExit(f"{package['name']} {package['version']} says no licence")
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def is_proc_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


class Crates:
    """The crates of a target: those that are in the binary, and those that only help to build it."""

    def __init__(self, target):
        metadata = json.loads(
            ask("cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", target)
        )
        self.packages = {package["id"]: package for package in metadata["packages"]}
        self.nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        self.root = metadata["resolve"]["root"]
        self.inside = self.reach(lambda kinds, package: None in kinds and not is_proc_macro(package))
        self.everything = self.reach(lambda kinds, package: None in kinds or "build" in kinds)
        lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
        self.checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}

    def next(self, identity, follow):
        for dependency in self.nodes[identity]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if follow(kinds, self.packages[dependency["pkg"]]):
                yield dependency["pkg"]

    def reach(self, follow):
        seen, waiting = set(), [self.root]
        while waiting:
            identity = waiting.pop()
            if identity not in seen:
                seen.add(identity)
                waiting.extend(self.next(identity, follow))
        return seen

    def sorted(self, identities):
        key = lambda identity: (self.packages[identity]["name"], self.packages[identity]["version"])
        return sorted((identity for identity in identities if identity != self.root), key=key)


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def component(package, checksum, scope):
    made = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "scope": scope,
        "licenses": [{"expression": expression(package)}],
        "purl": purl(package),
    }
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"] and re.fullmatch(r"https?://[!-~]+", package["repository"]):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def bill(crates, target, compiler, binary):
    root = crates.packages[crates.root]
    runtime = {
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "version": compiler,
        "description": f"The standard library of Rust for {target}, with the crates inside it",
        "scope": "required",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }
    musl = {
        "type": "library",
        "bom-ref": "musl",
        "name": "musl",
        "description": f"The C library, as Rust {compiler} brings it for {target}",
        "scope": "required",
        "licenses": [{"expression": "MIT"}],
    }
    components = [runtime, musl]
    for identity in crates.sorted(crates.everything):
        package = crates.packages[identity]
        checksum = crates.checksums.get((package["name"], package["version"]))
        components.append(component(package, checksum, "required" if identity in crates.inside else "excluded"))
    application = {
        "type": "application",
        "bom-ref": purl(root),
        "name": root["name"],
        "version": root["version"],
        "description": root["description"],
        "licenses": [{"expression": expression(root)}],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(binary).hexdigest()}],
        "properties": [{"name": "gateway:target", "value": target}],
    }
    either = lambda kinds, package: None in kinds or "build" in kinds
    dependencies = []
    for identity in [crates.root, *crates.sorted(crates.everything)]:
        needs = {purl(crates.packages[needed]) for needed in crates.next(identity, either)}
        if identity == crates.root:
            needs |= {"rust-std"}
        dependencies.append({"ref": purl(crates.packages[identity]), "dependsOn": sorted(needs)})
    dependencies += [{"ref": "rust-std", "dependsOn": ["musl"]}, {"ref": "musl", "dependsOn": []}]
    built = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.timezone.utc)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {"timestamp": built.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": application},
        "components": components,
        "dependencies": dependencies,
    }
    # A name of the content instead of a random number, so that the document is as reproducible as the binary.
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, content).urn
    return document


def tidy(text):
    """The same licence by another editor is the same text: line ends, spaces at the ends, and empty lines around."""
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip("\n").split("\n")) + "\n"


def texts_of(package):
    """The licence files of a crate, also those of code that it brought along in folders."""
    folder = pathlib.Path(package["manifest_path"]).parent
    found = []
    for path in sorted(folder.rglob("*")):
        plain = path.suffix.lower() in TEXT_SUFFIXES or "-" in path.suffix
        if path.is_file() and plain and LICENCE_FILE.fullmatch(path.name) and path.stat().st_size <= TEXT_LIMIT_BYTES:
            found.append(tidy(path.read_text(encoding="utf-8", errors="replace")))
    if not found:
        if "MIT" not in expression(package):
            raise SystemExit(f"{package['name']} {package['version']} brings no licence text")
        authors = ", ".join(author.split(" <")[0] for author in package["authors"]) or f"the authors of {package['name']}"
        found.append(MIT.format(copyright=f"Copyright (c) {authors}"))
    return found


def texts_of_standard_library():
    """The notices that come with the toolchain, for the crates inside the standard library; a list of (name, texts)."""
    page = pathlib.Path(ask("rustc", "--print", "sysroot").strip()) / "share/doc/rust/COPYRIGHT-library.html"
    if not page.is_file():
        raise SystemExit(f"{page} is not there: the toolchain brings no notices of its standard library")
    whole = page.read_text(encoding="utf-8")
    made = []
    for part in whole.split("<h3>")[1:]:
        name = html.unescape(re.sub(r"[^!-~]", "", part.split("</h3>", 1)[0]))
        texts = [tidy(html.unescape(text)) for text in re.findall(r"<pre>\n?(.*?)</pre>", part, re.DOTALL)]
        if texts:
            made.append((f"{name} (inside rust-std)", texts))
    if not made:
        raise SystemExit(f"{page} is not in the form that was expected")
    return made


def licences(crates, compiler):
    users, declared = {}, []

    def add(name, texts):
        for text in texts:
            users.setdefault(text, []).append(name)

    declared.append(f"rust-std {compiler}: MIT OR Apache-2.0")
    declared.append("musl: MIT")
    add("musl", [MIT.format(copyright="Copyright (c) 2005-2020 Rich Felker, et al.")])
    for identity in crates.sorted(crates.inside):
        package = crates.packages[identity]
        name = f"{package['name']} {package['version']}"
        declared.append(f"{name}: {expression(package)}")
        add(name, texts_of(package))
    for name, texts in texts_of_standard_library():
        add(name, texts)
    root = crates.packages[crates.root]
    lines = [
        f"{root['name']} {root['version']} is licensed under {expression(root)}. It contains the parts below, each under",
        "its own licence. Where a part offers a choice, each of the licences that it allows is printed.",
        "",
        *declared,
        "",
    ]
    for text, names in users.items():
        lines += ["=" * 100, "For " + ", ".join(dict.fromkeys(names)) + ":", "", text]
    return "\n".join(lines)


def check(folder):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    document = (folder / "sbom.cdx.json").read_text()
    wrong = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(document)
    if wrong:
        # The whole schema would follow.
        raise SystemExit(f"{folder}/sbom.cdx.json: {str(wrong.data.message)[:500]}")
    parsed = json.loads(document)
    known = {one["bom-ref"] for one in [*parsed["components"], parsed["metadata"]["component"]]}
    for dependency in parsed["dependencies"]:
        strange = ({dependency["ref"]} | set(dependency["dependsOn"])) - known
        if strange:
            raise SystemExit(f"{folder}/sbom.cdx.json: no such component: {sorted(strange)}")
    digest = hashlib.sha256((folder / "gateway").read_bytes()).hexdigest()
    if parsed["metadata"]["component"]["hashes"][0]["content"] != digest:
        raise SystemExit(f"{folder}/sbom.cdx.json is of another binary")
    inside = [one for one in parsed["components"] if one["scope"] == "required"]
    printed = (folder / "THIRD-PARTY-LICENSES").read_text()
    for one in inside:
        name = f"{one['name']} {one['version']}" if "version" in one else one["name"]
        if f"\n{name}: {one['licenses'][0]['expression']}\n" not in printed:
            raise SystemExit(f"{folder}/THIRD-PARTY-LICENSES says nothing of {name}")
    print(f"{folder}: CycloneDX {SPEC} is valid; {len(inside)} parts, {len(parsed['components'])} with those of the build")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        return check(pathlib.Path(sys.argv[2]))
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    target, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    compiler = re.search(r"^release: (.+)$", ask("rustc", "-vV"), re.MULTILINE).group(1)
    crates = Crates(target)
    document = bill(crates, target, compiler, (folder / "gateway").read_bytes())
    (folder / "sbom.cdx.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "THIRD-PARTY-LICENSES").write_text(licences(crates, compiler), encoding="utf-8")


if __name__ == "__main__":
    main()
