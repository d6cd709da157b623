#!/usr/bin/env python3
"""A flame picture (SVG) of what a perf recording shows: width is time, each row is called by the one below it.

    perf record -g -e cpu-clock -p PID -o perf.data; perf script -i perf.data | ./flame.py "title" > picture.svg

The release build keeps no frame pointers, so of lanrage's own code only the innermost function is known; the kernel's calls are whole.
Rows narrower than 0.4 % are left out.
"""
import html, re, sys

LEAST = 0.004
WIDTH, ROW = 1200, 17

def stacks(lines):
    frames = []
    for line in lines:
        line = line.rstrip("\n")
        if not line:
            if frames: yield list(reversed(frames))
            frames = []
        elif line[0] in " \t":
            m = re.match(r"\s+[0-9a-f]+ (.+) \((.+)\)$", line)
            if not m: continue
            name, where = re.sub(r"\+0x[0-9a-f]+$", "", m[1]), m[2]
            if name == "[unknown]": continue
            kernel = "kernel" in where
            frames.append((re.sub(r"<impl (.+?)>", r"\1", name), "k" if kernel else "u"))
    if frames: yield list(reversed(frames))

def tree(lines):
    root = {"n": 0, "of": {}}
    for stack in stacks(lines):
        at = root; at["n"] += 1
        for frame in stack:
            at = at["of"].setdefault(frame, {"n": 0, "of": {}}); at["n"] += 1
    return root

def main():
    root = tree(sys.stdin)
    total, boxes, deep = max(root["n"], 1), [], 0
    def draw(node, x, depth):
        nonlocal deep
        for (name, kind), child in sorted(node["of"].items(), key=lambda item: -item[1]["n"]):
            if child["n"] >= LEAST * total:
                deep = max(deep, depth); boxes.append((x, depth, child["n"], name, kind)); draw(child, x, depth + 1)
            x += child["n"]
    draw(root, 0, 0)
    height = (deep + 1) * ROW + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
           f'<text x="8" y="18" font-size="14">{html.escape(sys.argv[1] if len(sys.argv) > 1 else "")} ({total} samples; orange: kernel, blue: user space)</text>']
    for x, depth, n, name, kind in boxes:
        left, wide, top = x / total * WIDTH, n / total * WIDTH, height - (depth + 1) * ROW - 6
        hue = (28 if kind == "k" else 208) + sum(map(ord, name)) % 16
        short = name if len(name) * 6.7 < wide - 4 else name[: max(int((wide - 4) / 6.7) - 1, 0)] + "…" if wide > 24 else ""
        out.append(f'<g><title>{html.escape(name)}: {n / total:.1%}</title><rect x="{left:.1f}" y="{top}" width="{max(wide - 0.5, 0.5):.1f}" height="{ROW - 1}" fill="hsl({hue},75%,72%)"/>'
                   + (f'<text x="{left + 2:.1f}" y="{top + 12}">{html.escape(short)}</text>' if short else "") + "</g>")
    print("\n".join(out + ["</svg>"]))

main()
