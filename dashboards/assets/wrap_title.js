// Breaks the title of a figure, `text`, into lines that are not wider than the figure.
const context = document.createElement("canvas").getContext("2d")
context.font = `${title.text_font_style} ${title.text_font_size} ${title.text_font}`
const lines = [""]
for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim()
    if (lines.at(-1) && context.measureText(longer).width > cb_obj.inner_width) lines.push(word)
    else lines[lines.length - 1] = longer
}
title.text = lines.join("\n")
// What was drawn while the figure had no room for another line stays on the edge of the canvas.
if (lines.length > 1) {
    const view = cb_context.index.get_one(cb_obj)
    const {primary, overlays} = view.canvas_view
    for (const {canvas} of [primary, overlays]) canvas.width = canvas.width
    view.request_repaint()
}
