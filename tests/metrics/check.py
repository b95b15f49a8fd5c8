#!/usr/bin/python3
"""A page of metrics, read by Prometheus' own Python client and held against what the format asks for.

    check.py PAGE            says what is wrong, or prints the samples as "name{label=value,…} value"
    check.py --table PAGE    prints the families as the table of runner/docs/metrics.md
"""
import re
import sys

from prometheus_client.parser import text_string_to_metric_families

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*\})? (\S+)$')
wrong = []


def own_name(sample, family):
    """The family's name, of a sample's."""
    if family["type"] == "histogram":
        return re.sub(r"_(bucket|sum|count)$", "", sample)
    return sample


def check_lines(text):
    """Line by line: HELP, then TYPE, then the samples of that family and no other, each once."""
    families, current, seen = [], None, set()
    if not text.endswith("\n"):
        wrong.append("the last line has no end")
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if line.startswith("# HELP "):
            _, _, name, help_text = line.split(" ", 3)
            if any(family["name"] == name for family in families):
                wrong.append(f"line {number}: {name} comes twice")
            current = {"name": name, "help": help_text, "type": None}
            families.append(current)
        elif line.startswith("# TYPE "):
            _, _, name, current["type"] = line.split(" ")
            if name != current["name"]:
                wrong.append(f"line {number}: the type of {name} follows the help of {current['name']}")
        else:
            match = SAMPLE.match(line)
            if not match or not current or own_name(match[1], current) != current["name"]:
                wrong.append(f"line {number}: {line}")
                continue
            if (match[1], match[2]) in seen:
                wrong.append(f"line {number}: comes twice: {line}")
            seen.add((match[1], match[2]))
            float(match[3])
    return families


def check_family(family):
    """What the types promise."""
    if not family.documentation:
        wrong.append(f"{family.name}: no help")
    if family.type == "counter" and any(sample.value < 0 for sample in family.samples):
        wrong.append(f"{family.name}: less than nothing")
    if family.type != "histogram":
        return
    series = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        series.setdefault(labels, []).append(sample)
    for labels, samples in series.items():
        buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
        rest = {s.name[len(family.name):]: s.value for s in samples if not s.name.endswith("_bucket")}
        if buckets != sorted(buckets) or [v for _, v in buckets] != sorted(v for _, v in buckets):
            wrong.append(f"{family.name}{labels}: buckets are not in order")
        if not buckets or buckets[-1][0] != float("inf") or buckets[-1][1] != rest.get("_count") or "_sum" not in rest:
            wrong.append(f"{family.name}{labels}: +Inf, _count and _sum do not go together")


def main():
    with open(sys.argv[-1], encoding="utf-8") as page:
        text = page.read()
    families = check_lines(text)
    parsed = list(text_string_to_metric_families(text))
    for family in parsed:
        check_family(family)
        if family.type == "unknown":
            wrong.append(f"{family.name}: no type")
    if len(parsed) != len(families):
        wrong.append(f"{len(families)} families are written, {len(parsed)} are read")
    for family in families:
        if (family["type"] == "counter") != family["name"].endswith("_total"):
            wrong.append(f"{family['name']}: _total is what a counter ends with")
    if wrong:
        print("\n".join(wrong))
        return 1
    if sys.argv[1] == "--table":
        print("| family | type | meaning |\n|---|---|---|")
        for family in families:
            print(f"| `{family['name']}` | {family['type']} | {family['help']} |")
        return 0
    for family in parsed:
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            print(f"{sample.name}{{{labels}}} {sample.value:.15g}")
    return 0


sys.exit(main())
