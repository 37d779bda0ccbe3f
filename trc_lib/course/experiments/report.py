"""The results of a study as text."""

UNITS = {"control_mse": "control MSE ((m/s²)²)", "final_error": "mean final error",
         "cost_gap": "cost over the optimum, relative",
         "rejected": "share of plans that are rejected"}  # of the figures that may decide
COLUMNS = {  # heading, a number of a run, and how it is printed
    "train s": ("train_seconds", "{:.0f}"), "control MSE": ("control_mse", "{:.1e}"),
    "terminal": ("terminal_error", "{:.1e}"), "excess": ("excess_energy", "{:.1e}"),
    "cost gap": ("cost_gap", "{:.4%}"), "final error": ("final_error_mean", "{:.1e}"),
    "p99": ("final_error_p99", "{:.1e}"), "max": ("final_error_max", "{:.1e}"),
    "success": ("success_rate", "{:.2%}"), "landed": ("landed", "{:.1%}"),
    "unsafe": ("unsafe", "{:.2%}"), "rejected": ("rejected", "{:.2%}"),
    "more fuel": ("fuel_excess", "{:.2%}"), "its p99": ("fuel_excess_p99", "{:.1%}")}
OF_LANDINGS = ("train s", "landed", "unsafe", "rejected", "more fuel", "its p99")  # one unit each


def table(results, names=None):
    """One line a variant: the means of its seeds; in brackets the figure that is compared.

    Args:
        results: as `load_results` reads them.
        names: of variants, in this order; all if None.
    """
    variants = results["variants"]
    names = list(variants) if names is None else list(names)
    heads = [head for head in (OF_LANDINGS if results["figure"] == "rejected" else COLUMNS)
             if any(variants[name]["mean"].get(COLUMNS[head][0]) is not None for name in names)]
    columns = [["", *(variants[name]["label"] for name in names)]]
    for head in heads:
        figure, form = COLUMNS[head]
        means = [variants[name]["mean"].get(figure) for name in names]
        columns.append([f"[{head}]" if figure == results["figure"] else head,
                        *("" if mean is None else form.format(mean) for mean in means)])
    widths = [max(map(len, column)) for column in columns]
    failed = ["", *(variants[name]["failed"] for name in names)]
    return "\n".join(
        f"{label:{widths[0]}s}" + "".join(f"  {cell:>{width}s}"
                                          for cell, width in zip(cells, widths[1:]))
        + (f"   {missing} failed" if missing else "")
        for (label, *cells), missing in zip(zip(*columns), failed))


def label_of(results, point):
    """What a point of the front is called: variants by their labels."""
    start, plus, method = point["label"].partition(" + ")
    return results["variants"].get(start, {"label": start})["label"] + plus + method
