"""Colours of the report, light and dark, that colour-blind people can tell apart.

The hues are those of Okabe and Ito, "Color Universal Design" (2008), each a little darker on a
light ground and lighter on a dark one, so that thin lines keep their contrast.
"""

from __future__ import annotations

#: Of runs, and of rounds in a timeline: light, dark.
HUES = (
    ("#0072b2", "#56b4e9"),  # blue
    ("#c25400", "#ff9a4d"),  # vermilion
    ("#007d5a", "#2fd0a0"),  # bluish green
    ("#a8528a", "#e79fcb"),  # reddish purple
    ("#8a6d00", "#f0c93a"),  # yellow, dark enough for lines
    ("#4a4a4a", "#d0d0d0"),  # grey
)
#: Ground, raised ground, text, weak text, lines.
LIGHT = {"ground": "#ffffff", "card": "#f6f7f9", "text": "#1b1f24", "weak": "#57606a",
         "rule": "#d0d7de", "mark": "#fff3c4", "none": "#8b949e"}  # fmt: skip
DARK = {"ground": "#12161b", "card": "#1b2128", "text": "#e8ecf0", "weak": "#a3adb8",
        "rule": "#38414b", "mark": "#4a4013", "none": "#6e7781"}  # fmt: skip


def _variables(ground: dict[str, str], at: int) -> str:
    hues = {f"c{number}": pair[at] for number, pair in enumerate(HUES)}
    return "".join(f"--{name}:{value};" for name, value in {**ground, **hues}.items())


#: Variables for a style sheet.
COLOURS = (
    f":root{{color-scheme:light dark;{_variables(LIGHT, 0)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK, 1)}}}}}"
)
_CYCLE = "".join(f".l{n}{{stroke:var(--c{n})}}.f{n}{{fill:var(--c{n})}}" for n in range(len(HUES)))
#: How the parts of a drawing look.
DRAWING = (
    "svg{font:13px system-ui,sans-serif;fill:var(--text);max-width:100%;height:auto}"
    ".axis{stroke:var(--weak);fill:none}.grid{stroke:var(--rule);fill:none}"
    ".tick,.unit{fill:var(--weak)}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}"
    ".band{fill-opacity:.16}.faint{stroke-width:1;stroke-opacity:.3}.again{stroke-dasharray:6 3}"
    ".flight{fill-opacity:.28}.none{fill:var(--none)}"
    ".dropped{fill:none;stroke:var(--text);stroke-width:1;stroke-dasharray:2 1.5}"
    ".happened{stroke:var(--text);stroke-width:1.5}" + _CYCLE
)


def hue(number: int) -> int:
    """The colour of the run of a number, from 0."""
    return number % len(HUES)
