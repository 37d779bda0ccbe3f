"""The same pictures with sliders on: thin shells over `plots`."""

import html
import io

import ipywidgets


def explore(draw, **controls):
    """A picture that follows its controls.

    Args:
        draw: a plain function from the controls' values to a matplotlib `Figure`.
        controls: ipywidgets by the names of ``draw``'s arguments.

    Returns:
        one widget: the controls above the picture. What goes wrong in ``draw`` stands in words under it.
    """
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
    trouble = ipywidgets.HTML()

    def redraw(_=None):
        try:
            picture.value = png(draw(**{name: control.value for name, control in controls.items()}))
            trouble.value = ""
        except Exception as error:  # whatever it is, the learner shall read it
            trouble.value = f"<b>{type(error).__name__}:</b> {html.escape(str(error))}"

    for control in controls.values():
        control.style.description_width = "initial"
        control.observe(redraw, names="value")
    redraw()
    row = ipywidgets.HBox(list(controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
    return ipywidgets.VBox([row, picture, trouble])


def live_picture(draw):
    """A picture that is drawn anew with each call: show ``.picture`` and hand the function to whoever has news.

    Args:
        draw: a plain function from whatever the news is to a matplotlib `Figure`.
    """
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))

    def update(news):
        picture.value = png(draw(news))

    update.picture = picture
    return update


def png(figure):
    """The bytes of a figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
