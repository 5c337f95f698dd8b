"""What results look like to people: methods' titles, tables as Markdown, a verdict in words."""

from glavitu import band_ratio
from glavitu.comparison import ALL_GLACIER, FEWEST

TITLES = {
    "setr": "SETR",
    "resunet": "ResU-Net",
    "transunet": "TransU-Net",
    "glavitu": "GlaViTU",
    "deeplabv3plus": "DeepLabV3+",
    "segformer": "SegFormer",
    band_ratio.NAME: "Band ratio",
    ALL_GLACIER: "All glacier",
}


def title(method):
    """Return a method as the paper writes it.

    Examples
    --------
    >>> title("setr"), title("glavitu optical dem")
    ('SETR', 'GlaViTU (optical, dem)')
    """
    architecture, *sources = method.split(" ")
    name = TITLES.get(architecture, architecture)
    return f"{name} ({', '.join(sources)})" if sources else name


def verdict(tables, profile, reference="glavitu"):
    """Say in words which method has the highest mean IoU, and how far the others are apart."""
    networks = tables["networks"].set_index("method")
    everything = networks["mean IoU"].get(ALL_GLACIER, 0)
    networks = networks.drop(index=ALL_GLACIER, errors="ignore")
    if networks["mean IoU"].isna().all():
        return "No region has glacier in the labels of its test tiles: there is nothing to compare."
    best = networks.loc[networks["mean IoU"].idxmax()]
    lines = [
        f"With the profile {profile}, {best['network']} has the highest mean IoU over regions, "
        f"{best['mean IoU']:.3f}{_interval(best)}."
    ]
    if best["mean IoU"] <= everything:
        lines.append(f"Calling every pixel glacier scores as much or more: {everything:.3f}.")
    several = networks["std over seeds"].notna().any()
    drawn = "tiles and seeds" if several else "tiles"
    for row in tables["differences"].to_dict("records"):
        side = "above" if row["difference"] > 0 else "below"
        sure = "beyond" if row["low"] > 0 or row["high"] < 0 else "within"
        line = f"{title(row['method'])}: {abs(row['difference']):.3f} {side} {title(reference)}"
        if interval := _interval(row):
            line += f"{interval}, {sure} what the choice of {drawn} does"
        lines.append(line)
    if not _interval(best):
        lines.append(f"No intervals: a region has fewer than {FEWEST} test tiles.")
    elif not several:
        lines.append("One seed: what another seed would change is in no interval.")
    regions = tables["regions"]
    if empty := sorted(set(regions.loc[regions["tp"] + regions["fn"] == 0, "region"])):
        lines.append(f"No glacier in the labels of {', '.join(empty)}: not in any mean.")
    if networks["parameters"].max() < 8_000_000:
        lines.append("These networks are narrower than the paper's: compare them only here.")
    return "\n".join(lines)


def _interval(row):
    return "" if row["low"] != row["low"] else f" ({row['low']:.3f} to {row['high']:.3f})"


def readable(table):
    """Return a table for people: methods by title, intervals in a column, numbers as texts."""
    table = table.copy()
    if "method" in table and "network" not in table:
        table.insert(0, "network", table["method"].map(title))
    if "low" in table:
        interval = [_interval(row).strip(" ()") or None for row in table.to_dict("records")]
        table.insert(table.columns.get_loc("low"), "95 % interval", interval)
    if "seconds per patch" in table:
        table["ms per patch"] = table.pop("seconds per patch") * 1000
        table["parameters"] = [f"{v:,.0f}" if v == v else "–" for v in table["parameters"]]
        digits = {"best validation IoU": 3, "epochs": 1, "training minutes": 1, "ms per patch": 1}
        for column, count in digits.items():
            table[column] = [
                f"{v:.{count}f}".removesuffix(".0") if v == v else "–" for v in table[column]
            ]
    table = table.drop(columns=["method", "low", "high", "accuracy"], errors="ignore")
    return table.dropna(axis=1, how="all")


def to_markdown(table):
    """Return a table as Markdown: three decimals, counts with thousands separators."""
    rows = [list(table.columns), ["---"] * table.shape[1]]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _cell(value):
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
