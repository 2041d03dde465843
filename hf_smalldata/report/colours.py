"""The colours of a report, for light and dark paper; plots and page share them.

Each role has another value in `LIGHT`, so that a drawn colour tells its role: `svg` turns it into that role's CSS
custom property. All but paper and hairlines have a contrast of at least 4.5 with `paper` and `raised` (WCAG 2.2,
AA, for text). No role is told by its colour alone.
"""

LIGHT = {
    "paper": "#ffffff",
    "raised": "#f5f6f8",
    "rule": "#d8dce2",
    "ink": "#1c2127",
    "muted": "#59626d",
    "accent": "#175fb8",
    "good": "#0f6b52",
    "bad": "#b03d12",
    "series-2": "#b45309",
    "series-3": "#0e7a5f",
    "series-4": "#8a3fa0",
    "series-5": "#a3304f",
}
DARK = {
    "paper": "#15181c",
    "raised": "#1e2227",
    "rule": "#3a4049",
    "ink": "#e6e9ec",
    "muted": "#a4adb8",
    "accent": "#83b5f7",
    "good": "#63c7a4",
    "bad": "#f2976b",
    "series-2": "#e9a155",
    "series-3": "#4fc3a1",
    "series-4": "#cf94e2",
    "series-5": "#f08ba3",
}
SERIES = ("accent", "series-2", "series-3", "series-4", "series-5")
