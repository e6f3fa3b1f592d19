// Breaks the title of a figure, `text`, into lines that are not wider than the figure. Its letters
// become smaller first, from `size` to `smallest` pixels.
const context = document.createElement("canvas").getContext("2d")
const width = (text) => {
    context.font = `${title.text_font_style} ${pixels}px ${title.text_font}`
    return context.measureText(text).width
}
let pixels = size
while (pixels > smallest && width(text) > cb_obj.inner_width) pixels -= 0.5
title.text_font_size = `${pixels}px`
title.text_line_height = size / pixels  // a line keeps its height
const lines = [""]
for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim()
    if (lines.at(-1) && width(longer) > cb_obj.inner_width) lines.push(word)
    else lines[lines.length - 1] = longer
}
title.text = lines.join("\n")
// What was drawn while the figure had no room for another line stays on the edge of the canvas.
const view = cb_context.index.find_one(cb_obj)  // null if another page has replaced the figure
if (lines.length > 1 && view) {
    const {primary, overlays} = view.canvas_view
    for (const {canvas} of [primary, overlays]) canvas.width = canvas.width
    view.request_repaint()
}
