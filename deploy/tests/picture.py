"""Draws the panels of the dashboard from what Prometheus answered, where Grafana would put them."""

import io
import pathlib

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, PercentFormatter
from PIL import Image

# A cell of Grafana's grid, in inches.
CELL = (0.62, 0.36)
# Those that the dashboard names; all others are matplotlib's.
COLORS = {
    "green": "#56a64b",
    "yellow": "#e0b400",
    "orange": "#ff780a",
    "purple": "#a352cc",
    "blue": "#3274d9",
    "red": "#e02f44",
}
UNITS = {
    "short": FuncFormatter(lambda value, _: f"{value:g}"),
    "ops": FuncFormatter(lambda value, _: f"{value:g}/s"),
    "s": FuncFormatter(lambda value, _: f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"),
    "percentunit": PercentFormatter(1.0, decimals=0),
}


def draw(panels: list[dict], data: dict[int, list[tuple[str, list]]], to: pathlib.Path) -> None:
    """Writes a picture; `data` has each panel's series by its id, points as seconds since the start and value."""
    plt.rcParams |= {"font.size": 7, "axes.titlesize": 8, "axes.titleweight": "bold"}
    columns = max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in panels)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(columns * CELL[0], rows * CELL[1]))
    for panel in panels:
        place = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.1 / columns, 1 - (place["y"] + 0.8) / rows, panel["title"], fontsize=10)
            continue
        width, height = (place["w"] - 1.6) / columns, (place["h"] - 2.7) / rows
        axes = figure.add_axes(
            ((place["x"] + 1.2) / columns, 1 - (place["y"] + place["h"] - 1.8) / rows, width, height)
        )
        show(axes, panel, data[panel["id"]])
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    # A quarter of the size, and nobody sees the difference.
    Image.open(picture).quantize(128).save(to, optimize=True)


def show(axes: plt.Axes, panel: dict, lines: list[tuple[str, list]]) -> None:
    """Draws one panel."""
    config = panel["fieldConfig"]
    colors = {
        override["matcher"]["options"]: COLORS[override["properties"][0]["value"]["fixedColor"]]
        for override in config["overrides"]
    }
    names = [name for name, _ in lines]
    chosen = [colors.get(name, f"C{at}") for at, name in enumerate(names)]
    if config["defaults"]["custom"]["stacking"]["mode"] == "normal":
        times = sorted({at for _, points in lines for at, _ in points})
        values = [dict(points) for _, points in lines]
        axes.stackplot(times, [[one.get(at, 0) for at in times] for one in values], labels=names, colors=chosen)
    else:
        for (name, points), color in zip(lines, chosen, strict=True):
            axes.plot([at for at, _ in points], [value for _, value in points], label=name, color=color, linewidth=1)
    axes.set_title(panel["title"], loc="left")
    axes.set_ylim(bottom=config["defaults"].get("min"), top=config["defaults"].get("max"))
    axes.yaxis.set_major_formatter(UNITS[config["defaults"]["unit"]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02}"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    columns = 4 if max(map(len, names)) < 14 else 2
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=columns, frameon=False, fontsize=5.5)
