#!/usr/bin/env python3
"""Fits the weights of src/wire/tokens.rs to a real tokenizer, and says how far off the rule is.

    python3 -m venv VENV && VENV/bin/pip install tiktoken numpy scipy
    npm pack tiktoken@1.0.22                     # package/encoders/*.json hold the vocabularies
    VENV/bin/python benches/tokens/fit.py package/encoders/o200k_base.json CORPUS

CORPUS has a folder for each kind of text (english, german, chinese, code, json, ...), files in UTF-8. Every second file
is fitted to, the others are measured. Results: docs/usage.md. The features are those of the Rust module; keep them alike.
"""

import base64, json, sys
from pathlib import Path

import numpy, tiktoken
from scipy.optimize import nnls

NAMES = ["words", "letters", "humps", "digits", "punctuation", "marks", "spaces", "lines", "latin", "other", "wide", "rare"]
CHUNK = 2_000


def features(text):
    count = dict.fromkeys(NAMES, 0)
    before = " "
    for char in text:
        if "a" <= char <= "z" or "A" <= char <= "Z":
            kind = "U" if char <= "Z" else "l"
            count["letters"] += 1
            if before not in "lUx":
                count["words"] += 1
            elif kind == "U" and before != "U":
                count["humps"] += 1
        elif "0" <= char <= "9":
            kind = "0"
            count["digits"] += 1
        elif char in "\n\r":
            kind = "n"
            count["lines"] += before != "n"
        elif char in " \t":
            kind = "s"
            # One space belongs to the word behind it.
            count["spaces"] += before in "sn"
        elif ord(char) < 128:
            kind = "p"
            count["punctuation"] += 1
            count["marks"] += before != "p"
        elif ord(char) < 0x250:
            kind = "x"
            count["latin"] += 1
            count["words"] += before not in "lUx"
        elif ord(char) < 0x2E80:
            kind = "o"
            count["other"] += 1
        elif ord(char) < 0x10000:
            kind = "w"
            count["wide"] += 1
        else:
            kind = "r"
            count["rare"] += 1
        before = kind
    return [count[name] for name in NAMES]


def encoding(path):
    data = json.load(open(path))
    ranks = {}
    for line in data["bpe_ranks"].strip().split("\n"):
        _, offset, *tokens = line.split(" ")
        for place, token in enumerate(tokens):
            ranks[base64.b64decode(token)] = int(offset) + place
    return tiktoken.Encoding("from-file", pat_str=data["pat_str"], mergeable_ranks=ranks, special_tokens={})


def chunks(folder, odd):
    for number, path in enumerate(sorted(folder.iterdir())):
        if number % 2 == odd:
            text = path.read_text("utf-8", "ignore")
            for at in range(0, min(len(text), 40 * CHUNK), CHUNK):
                if len(text) - at >= CHUNK // 4:
                    yield text[at : at + CHUNK]


def main():
    tokenizer = encoding(sys.argv[1])
    kinds = sorted(path for path in Path(sys.argv[2]).iterdir() if path.is_dir())
    rows, sizes, fitted = [], [], []
    for kind in kinds:
        own = [(features(text), len(tokenizer.encode_ordinary(text))) for text in chunks(kind, 0)]
        for row, size in own:
            # Relative errors count, and each kind as much as another.
            weight = 1 / size / len(own) ** 0.5
            rows.append([value * weight for value in row])
            sizes.append(size * weight)
    weights, _ = nnls(numpy.array(rows), numpy.array(sizes))
    for name, weight in zip(NAMES, weights):
        print(f"{name:12} {round(weight * 1000):5} thousandths")
    weights = numpy.round(weights * 1000) / 1000
    print(f"{'kind':12} chunks  bytes/token  bias  mean error  95% within    bytes/4: bias")
    for kind in kinds:
        real, rule, size = [], [], []
        for text in chunks(kind, 1):
            real.append(len(tokenizer.encode_ordinary(text)))
            rule.append(float(numpy.dot(features(text), weights)))
            size.append(len(text.encode()))
        real, rule, size = map(numpy.array, (real, rule, size))
        error = rule / real - 1
        print(
            f"{kind.name:12} {len(real):6}  {size.sum() / real.sum():11.2f}  {rule.sum() / real.sum() - 1:+.1%}"
            f"  {abs(error).mean():9.1%}  {numpy.quantile(abs(error), 0.95):9.1%}    {size.sum() / 4 / real.sum() - 1:+.1%}"
        )


main()
